//! Probes: accuracy by layer with everything it has to beat, and what a probe is worth on other sets and layers.

use std::collections::BTreeSet;

use super::{
    Run,
    figure::{Figure, Heading, Matrix, Rows, curves, matrix},
    lens::hooks,
    run::groups,
    transfer::square,
    words,
};
use crate::{
    figure::{Colours, Labels},
    run::{MetricRow, Parts, RowKind},
};

/// Of every probe, one line each in one figure.
const COMPARED: [&str; 9] = [
    "macro_f1",
    "auroc",
    "nll",
    "ece",
    "ece_debiased",
    "brier",
    "selectivity",
    "compression",
    "compression_less_shuffled",
];

/// All figures of a sweep or a transfer of probes.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let mut figures = layers(run);
    figures.extend(compared(run));
    figures.extend(generalisation(run));
    for metric in ["accuracy", "r2"] {
        let rows = run.of(RowKind::ProbeTransfer, metric);
        for rows in groups(&rows, |r| (r.subject.as_str(), r.hook.as_str())) {
            let (_, label) = words::metric(metric, &rows[0].unit);
            let (subject, hook) = (&rows[0].subject, &rows[0].hook);
            let heading = Heading::new(
                format!("probe-transfer-{metric}-{subject}-{hook}"),
                format!("{subject}: the probe of one layer on the states of another"),
                "Outlined: a layer's own probe.",
            );
            let place = |r: &MetricRow| (r.source_layer.unwrap_or(r.layer), r.layer);
            figures.push(square(
                run,
                heading,
                &rows,
                &place,
                (label, Colours::Sequential),
                ["probe of layer", "state of layer"],
            ));
        }
    }
    figures
}

/// What the rows of this run's probes are called: of a sweep `probe`, of `probe apply` `applied`.
fn kind(run: &Run) -> RowKind {
    if run.rows.iter().any(|row| row.kind == RowKind::Applied) { RowKind::Applied } else { RowKind::Probe }
}

/// One figure per probe and hook: the measure that chooses the best layer, its control and its baselines.
fn layers(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let kind = kind(run);
    let (part, on) = if kind == RowKind::Applied {
        ("other data", "data it was not made for")
    } else {
        ("test part", "the test part")
    };
    for metric in ["accuracy", "r2"] {
        let rows = run.of(kind, metric);
        let several = hooks(&rows).len() > 1;
        for own in groups(&rows, |r| (r.subject.as_str(), r.hook.as_str())) {
            let (subject, hook) = (own[0].subject.clone(), own[0].hook.clone());
            let same = |metric: &str| -> Vec<MetricRow> {
                let rows = run.of(kind, metric);
                rows.into_iter().filter(|r| r.subject == subject && r.hook == hook).collect()
            };
            let mut lines = Rows { lines: vec![(part.into(), own.clone())], ..Rows::default() };
            let others = [
                ("control_accuracy", "control task (random labels per word)"),
                ("shuffled_accuracy", "shuffled labels"),
            ];
            for (name, shown) in others {
                let rows = same(name);
                if !rows.is_empty() {
                    lines.lines.push((shown.into(), rows));
                }
            }
            lines.levels = baselines(run, metric);
            let best = same(&format!("best_{metric}"));
            lines.best = best.first().map(|r| r.layer);
            lines.tied =
                same("tied_with_best").iter().filter(|r| r.estimate == 1.0).map(|r| r.layer).collect();
            let quote = quoted(&same(&format!("nested_{metric}")), &best);
            let site = if several { format!("-{hook}") } else { String::new() };
            let (title, label) = words::metric(metric, &own[0].unit);
            let title = if metric == "accuracy" { format!("Accuracy on {on}") } else { title };
            let heading = Heading::new(
                format!("probe-{metric}-{subject}{site}"),
                format!("{title}, by layer: {subject} probe at {hook}"),
                quote,
            );
            figures.push(curves(run, heading, (&label, false), &[lines]));
        }
    }
    figures
}

/// The value to quote: of the layer that validation rows chose, or, in runs of earlier versions, the best one's.
fn quoted(nested: &[MetricRow], best: &[MetricRow]) -> String {
    let number = |r: &MetricRow| {
        let interval = r.lower.zip(r.upper).map_or_else(String::new, |(l, u)| format!(" [{l:.3}, {u:.3}]"));
        format!("{:.3}{interval}", r.estimate)
    };
    match (nested.first(), best.first()) {
        (Some(r), _) => format!("Layer {}, chosen on validation rows: {}.", r.layer, number(r)),
        (None, Some(r)) => format!("Best layer after correcting for the choice: {}.", number(r)),
        (None, None) => String::new(),
    }
}

/// What the tokens alone give.
fn baselines(run: &Run, metric: &str) -> Vec<(String, MetricRow)> {
    let own = |r: &&MetricRow| r.metric == metric || r.metric == format!("majority_{metric}");
    let rows = run.rows.iter().filter(|r| r.kind == RowKind::Baseline).filter(own);
    rows.map(|r| (r.subject.to_string(), r.clone())).collect()
}

/// One figure per further metric and hook: a line per probe.
fn compared(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let kind = kind(run);
    for metric in COMPARED {
        let rows = run.of(kind, metric);
        let several = hooks(&rows).len() > 1;
        for own in groups(&rows, |r| r.hook.as_str()) {
            let hook = own[0].hook.clone();
            let mut lines = Rows::by_subject(&own);
            lines.levels = baselines(run, metric);
            let site = if several { format!("-{hook}") } else { String::new() };
            let (title, label) = words::metric(metric, &own[0].unit);
            let heading =
                Heading::new(format!("probe-{metric}{site}"), format!("{title}, by layer of {hook}"), "");
            figures.push(curves(run, heading, (&label, false), &[lines]));
        }
    }
    figures
}

/// Probes of one set on another: a panel per tested set, and the matrix at the best layer.
fn generalisation(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    for metric in ["accuracy", "r2"] {
        let rows = run.of(RowKind::Generalisation, metric);
        let several = hooks(&rows).len() > 1;
        for rows in groups(&rows, |r| r.hook.as_str()) {
            let sets = sets(&rows);
            if sets.is_empty() {
                continue;
            }
            let site = if several { format!("-{}", rows[0].hook) } else { String::new() };
            let (title, label) = words::metric(metric, &rows[0].unit);
            let panel = |on: &String| {
                let mut lines = Rows { title: format!("tested on {on}"), ..Rows::default() };
                for row in &rows {
                    if let Some((from, _)) = pair(row).filter(|(_, to)| to == on) {
                        lines.add(&format!("fitted on {from}"), row.clone());
                    }
                }
                lines
            };
            let panels: Vec<Rows> = sets.iter().map(panel).collect();
            let heading = Heading::new(
                format!("generalisation-{metric}{site}"),
                format!("{} on other sets, by layer", if metric == "accuracy" { "Accuracy" } else { &title }),
                "",
            );
            figures.push(curves(run, heading, (&label, false), &panels));
            figures.extend(across_sets(run, metric, &label, &site, &rows, &sets));
        }
    }
    figures
}

/// The matrix of sets, at the layer where probes do best on their own sets.
fn across_sets(
    run: &Run,
    metric: &str,
    label: &str,
    site: &str,
    rows: &[MetricRow],
    sets: &[String],
) -> Option<Figure> {
    let own = |r: &&MetricRow| pair(r).is_some_and(|(from, to)| from == to);
    let layers: BTreeSet<i32> = rows.iter().map(|r| r.layer).collect();
    let sum =
        |layer: i32| rows.iter().filter(own).filter(|r| r.layer == layer).map(|r| r.estimate).sum::<f64>();
    let best = layers.into_iter().max_by(|a, b| sum(*a).total_cmp(&sum(*b)).then(b.cmp(a)))?;
    let cell = |from: &String, to: &String| {
        let same = |r: &&MetricRow| r.layer == best && pair(r) == Some((from, to));
        rows.iter().find(same).cloned()
    };
    let values = sets.iter().flat_map(|from| sets.iter().map(move |to| cell(from, to))).collect();
    let names = Labels::Names(sets.to_vec());
    let heading = Heading::new(
        format!("generalisation-matrix-{metric}{site}"),
        format!("Probes on other sets, at layer {best}"),
        "The layer is the one where probes do best on their own sets. Outlined: fitted and tested on one set.",
    );
    let of = Matrix {
        rows: names.clone(),
        row_label: "fitted on",
        columns: names,
        column_label: "tested on",
        value_label: label.to_owned(),
        colours: Colours::Sequential,
        values,
    };
    Some(matrix(run, heading, of))
}

/// The sets that a probe was fitted and is tested on.
fn pair(row: &MetricRow) -> Option<(&str, &str)> {
    match row.subject.parts() {
        Parts::Set { trained_on, tested_on: Some(tested_on), .. } => Some((trained_on, tested_on)),
        _ => None,
    }
}

/// The names of sets that probes are tested on, in the order of the rows.
fn sets(rows: &[MetricRow]) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    for (_, on) in rows.iter().filter_map(pair) {
        if !sets.iter().any(|set| set == on) {
            sets.push(on.to_owned());
        }
    }
    sets
}
