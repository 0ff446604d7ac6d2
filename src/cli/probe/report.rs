//! Tables of probes for people.

use std::{collections::BTreeSet, fmt::Write as _};

use layerscope::{
    probe::{Nested, Summary},
    results::run::{MetricRow, RowKind},
};
use serde_json::{Value, json};

use super::super::{
    numbers::{LEGEND, with_interval},
    output::Output,
    table::Table,
};

/// What a table shows of a layer, where it was measured.
const COLUMNS: [(&str, &str); 12] = [
    ("accuracy", "accuracy"),
    ("r2", "R²"),
    ("macro_f1", "macro-F1"),
    ("auroc", "AUROC"),
    ("nll", "NLL"),
    ("selectivity", "selectivity"),
    ("control_accuracy", "control"),
    ("shuffled_accuracy", "shuffled"),
    ("compression", "compression"),
    ("shuffled_compression", "of shuffled"),
    ("p_value", "p"),
    ("p_value_corrected", "p corrected"),
];

/// A table per probe and hook of the rows of a kind, a row per layer; a star marks layers that cannot be told from the
/// best. Baselines below.
pub(super) fn table(rows: &[MetricRow], kind: RowKind) -> String {
    let mut text = String::new();
    let probes = || rows.iter().filter(|r| r.kind == kind);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for row in probes() {
        let key = (row.subject.as_str(), row.hook.as_str());
        if !seen.contains(&key) {
            seen.push(key);
        }
    }
    for (subject, hook) in seen {
        let own: Vec<&MetricRow> = probes().filter(|r| r.subject == subject && r.hook == hook).collect();
        let columns: Vec<_> =
            COLUMNS.iter().filter(|(metric, _)| own.iter().any(|r| r.metric == *metric)).collect();
        let mut table = Table::new(["layer"].into_iter().chain(columns.iter().map(|(_, title)| *title)));
        for layer in own.iter().map(|r| r.layer).collect::<BTreeSet<i32>>() {
            let find = |metric: &str| own.iter().find(|r| r.layer == layer && r.metric == metric).copied();
            let tied = find("tied_with_best").is_some_and(|r| r.estimate == 1.0);
            let label = format!("{layer}{}", if tied { "*" } else { " " });
            let cells =
                columns.iter().map(|(metric, _)| find(metric).map_or_else(String::new, with_interval));
            table.row(std::iter::once(label).chain(cells));
        }
        let star = if kind == RowKind::Probe { "; * cannot be told from the best" } else { "" };
        let _ = write!(text, "{subject}, {hook} ({LEGEND}{star})\n{table}");
        text.extend(below(&own));
        text.push('\n');
    }
    for row in rows.iter().filter(|r| r.kind == RowKind::Baseline && r.metric.ends_with("accuracy")) {
        let _ = writeln!(text, "baseline {}: accuracy {}", row.subject, with_interval(row));
    }
    text.trim_end().to_owned()
}

/// What a table's columns do not say: the value to quote, and layers in which nothing can be read.
fn below(own: &[&MetricRow]) -> Vec<String> {
    let mut lines = Vec::new();
    for (metric, title) in [("nested_accuracy", "accuracy"), ("nested_r2", "R²")] {
        let chosen = own.iter().filter(|r| r.metric == metric);
        lines.extend(chosen.map(|row| {
            let interval = interval(row.lower, row.upper);
            format!(
                "to quote: {title} {:.3}{interval} of the layer chosen on validation rows ({} in the most splits)\n",
                row.estimate, row.layer
            )
        }));
    }
    let still = own.iter().filter(|r| r.metric == "constant_states");
    let still: Vec<String> = still.map(|r| r.layer.to_string()).collect();
    if !still.is_empty() {
        lines.push(format!(
            "layer{} {}: the states are constant; the probe says the commonest class, or the mean\n",
            if still.len() == 1 { "" } else { "s" },
            still.join(", ")
        ));
    }
    lines
}

/// ` [0.412, 0.530]`, where there is one.
fn interval(lower: Option<f64>, upper: Option<f64>) -> String {
    lower.zip(upper).map_or_else(String::new, |(lower, upper)| format!(" [{lower:.3}, {upper:.3}]"))
}

/// The layer that validation rows chose, with its value on test rows; the best one there, with what is left of its
/// value after having been chosen.
pub(super) fn summaries(summaries: &[Summary], output: Output) {
    for s in summaries {
        output.note(format!(
            "{} on {}: {}best on test rows: layer {}, {} {:.3}{} after correcting for the choice; {} of {} layers cannot be told apart from it",
            s.estimator.name(),
            s.hook,
            s.nested.as_ref().map_or_else(String::new, |nested| chosen(nested, s.metric)),
            s.layers[s.best.place],
            s.metric,
            s.best.corrected.estimate,
            interval(s.best.corrected.lower(), s.best.corrected.upper()),
            s.best.tied.iter().filter(|tied| **tied).count(),
            s.layers.len()
        ));
        if !s.converged {
            output.warn(format!("{}: some fits did not reach their tolerance", s.estimator.name()));
        }
    }
}

/// `layer 7 (2 splits) or 8 (1), chosen on validation rows: accuracy 0.812 [0.700, 0.900]; `
fn chosen(Nested { chosen, test }: &Nested, metric: &str) -> String {
    let several = chosen.len() > 1;
    let one = |(place, (layer, splits)): (usize, &(usize, usize))| match (several, place) {
        (false, _) => layer.to_string(),
        (true, 0) => format!("{layer} ({splits} split{})", if *splits == 1 { "" } else { "s" }),
        (true, _) => format!("{layer} ({splits})"),
    };
    let layers: Vec<String> = chosen.iter().enumerate().map(one).collect();
    let interval = interval(test.lower(), test.upper());
    let layers = layers.join(" or ");
    format!("layer {layers}, chosen on validation rows: {metric} {:.3}{interval}; ", test.estimate)
}

/// The same for machines.
pub(super) fn best(summaries: &[Summary]) -> Value {
    let one = |s: &Summary| {
        let tied = s.layers.iter().zip(&s.best.tied).filter(|(_, tied)| **tied).map(|(layer, _)| layer);
        json!({
            "probe": s.estimator.name(),
            "hook": s.hook,
            "metric": s.metric,
            "nested": s.nested.as_ref().map(nested),
            "layer": s.layers[s.best.place],
            "corrected": s.best.corrected.estimate,
            "lower": s.best.corrected.lower(),
            "upper": s.best.corrected.upper(),
            "tied": tied.collect::<Vec<_>>(),
            "converged": s.converged,
        })
    };
    summaries.iter().map(one).collect()
}

fn nested(Nested { chosen, test }: &Nested) -> Value {
    let layers: Vec<Value> =
        chosen.iter().map(|(layer, splits)| json!({ "layer": layer, "splits": splits })).collect();
    json!({ "layers": layers, "value": test.estimate, "lower": test.lower(), "upper": test.upper() })
}
