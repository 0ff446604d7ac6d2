//! Tables of probes for people.

use std::{collections::BTreeSet, fmt::Write as _};

use layerscope::{probe::Summary, run::MetricRow};
use serde_json::{Value, json};

use super::super::{lens::with_interval, output::Output, table::Table};

/// What a table shows of a layer, where it was measured.
const COLUMNS: [(&str, &str); 11] = [
    ("accuracy", "accuracy"),
    ("r2", "R²"),
    ("macro_f1", "macro-F1"),
    ("auroc", "AUROC"),
    ("nll", "NLL"),
    ("selectivity", "selectivity"),
    ("control_accuracy", "control"),
    ("shuffled_accuracy", "shuffled"),
    ("compression", "compression"),
    ("p_value", "p"),
    ("p_value_corrected", "p corrected"),
];

/// A table per probe and hook of the rows of a kind, a row per layer; a star marks layers that cannot be told from the best.
/// Baselines below.
pub(super) fn table(rows: &[MetricRow], kind: &str) -> String {
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
        let star = if kind == "probe" { "; * cannot be told from the best" } else { "" };
        let _ = writeln!(text, "{subject}, {hook} (± half of the 95 % interval{star})\n{table}");
        let still = own.iter().filter(|r| r.metric == "constant_states");
        let still: Vec<String> = still.map(|r| r.layer.to_string()).collect();
        if !still.is_empty() {
            let one = if still.len() == 1 { "" } else { "s" };
            let _ = writeln!(
                text,
                "layer{one} {}: the states are constant; the probe says the commonest class, or the mean",
                still.join(", ")
            );
        }
    }
    for row in rows.iter().filter(|r| r.kind == "baseline" && r.metric.ends_with("accuracy")) {
        let _ = writeln!(text, "baseline {}: accuracy {}", row.subject, with_interval(row));
    }
    text.trim_end().to_owned()
}

/// What the best layers are, and what is left of their values after having been chosen.
pub(super) fn summaries(summaries: &[Summary], output: Output) {
    for s in summaries {
        let layer = s.layers[s.best.place];
        let c = s.best.corrected;
        let interval = match (c.lower, c.upper) {
            (Some(lower), Some(upper)) => format!(" [{lower:.3}, {upper:.3}]"),
            _ => String::new(),
        };
        let tied = s.best.tied.iter().filter(|tied| **tied).count();
        output.note(format!(
            "{} on {}: best at layer {layer}, {} {:.3}{interval} after correcting for the choice; {tied} of {} layers cannot be told apart from it",
            s.estimator.name(),
            s.hook,
            s.metric,
            c.estimate,
            s.layers.len()
        ));
        if !s.converged {
            output.warn(format!("{}: some fits did not reach their tolerance", s.estimator.name()));
        }
    }
}

/// The same for machines.
pub(super) fn best(summaries: &[Summary]) -> Value {
    let one = |s: &Summary| {
        let tied = s.layers.iter().zip(&s.best.tied).filter(|(_, tied)| **tied).map(|(layer, _)| layer);
        json!({
            "probe": s.estimator.name(),
            "hook": s.hook,
            "metric": s.metric,
            "layer": s.layers[s.best.place],
            "corrected": s.best.corrected.estimate,
            "lower": s.best.corrected.lower,
            "upper": s.best.corrected.upper,
            "tied": tied.collect::<Vec<_>>(),
            "converged": s.converged,
        })
    };
    summaries.iter().map(one).collect()
}
