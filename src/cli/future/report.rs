//! The table for people: precision at 1 by layer, a block per horizon.

use std::{collections::BTreeSet, fmt::Write as _};

use layerscope::results::run::{MetricRow, Parts, RowKind};
use serde_json::{Value, json};

use super::super::{
    numbers::{LEGEND, with_interval},
    table::Table,
};

/// Subjects in the order they came, without single fixed prompts, which are in the file.
fn subjects(rows: &[MetricRow]) -> Vec<&str> {
    let mut subjects: Vec<&str> = Vec::new();
    let single =
        |r: &MetricRow| matches!(r.subject.parts(), Parts::Variant { prompt: Some(_), variant: None, .. });
    for row in rows.iter().filter(|r| r.kind != RowKind::Baseline && !single(r)) {
        if !subjects.contains(&row.subject.as_str()) {
            subjects.push(&row.subject);
        }
    }
    subjects
}

/// Precision at 1 by horizon, layer and subject, then the information in the state.
pub(super) fn table(rows: &[MetricRow]) -> String {
    let subjects = subjects(rows);
    let horizons: BTreeSet<i32> = rows.iter().map(|r| r.horizon).collect();
    let layers: BTreeSet<i32> =
        rows.iter().filter(|r| r.kind != RowKind::Baseline).map(|r| r.layer).collect();
    let mut text =
        format!("precision at 1 ({LEGEND}): how often the first token is the model's own greedy one\n");
    for &k in &horizons {
        let find = |subject: &str, layer: i32, metric: &str, unit: &str| {
            rows.iter().find(|r| {
                (r.subject.as_str(), r.layer, r.horizon) == (subject, layer, k)
                    && (r.metric.as_str(), r.unit.as_str()) == (metric, unit)
            })
        };
        let shown: Vec<&str> = subjects
            .iter()
            .copied()
            .filter(|s| layers.iter().any(|l| find(s, *l, "precision_at_1", "share").is_some()))
            .collect();
        let informed: Vec<&str> = shown
            .iter()
            .copied()
            .filter(|s| layers.iter().any(|l| find(s, *l, "information", "share").is_some()))
            .collect();
        let headers =
            shown.iter().map(|s| (*s).to_owned()).chain(informed.iter().map(|s| format!("{s} - shuffled")));
        let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
        for &layer in &layers {
            let cell =
                |s: &str, metric| find(s, layer, metric, "share").map_or_else(String::new, with_interval);
            let own = shown.iter().map(|s| cell(s, "precision_at_1"));
            let cells: Vec<String> = own.chain(informed.iter().map(|s| cell(s, "information"))).collect();
            table.row(std::iter::once(layer.to_string()).chain(cells));
        }
        let baselines: Vec<String> = rows
            .iter()
            .filter(|r| r.kind == RowKind::Baseline && r.horizon == k)
            .map(|r| format!("{} {}", r.subject, with_interval(r)))
            .collect();
        let _ = write!(text, "\n+{k}: {}\n{table}", baselines.join(", "));
    }
    text.trim_end().to_owned()
}

/// Per subject and horizon the layer with the highest precision at 1.
pub(super) fn best(rows: &[MetricRow]) -> Vec<Value> {
    let mut best: Vec<&MetricRow> = Vec::new();
    for row in rows.iter().filter(|r| r.metric == "precision_at_1") {
        match best.iter_mut().find(|b| b.subject == row.subject && b.horizon == row.horizon) {
            Some(known) if known.estimate >= row.estimate => {}
            Some(known) => *known = row,
            None => best.push(row),
        }
    }
    let one = |r: &MetricRow| {
        json!({ "subject": r.subject, "horizon": r.horizon, "layer": r.layer, "precision_at_1": r.estimate,
                "lower": r.lower, "upper": r.upper })
    };
    best.into_iter().map(one).collect()
}
