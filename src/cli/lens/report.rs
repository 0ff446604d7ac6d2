//! Tables for people.

use std::{collections::BTreeSet, fmt::Write as _};

use layerscope::results::run::{MetricRow, RowKind};

use super::super::{
    numbers::{LEGEND, with_interval},
    table::Table,
};

const HIDDEN: &str = "cross-entropy of the token behind the mask, nats";

/// CE, KL and agreement by layer and lens; of future lenses the accuracy by layer and horizon, beside their baselines.
/// `hidden` says that the true tokens are behind masks.
pub(crate) fn layers(rows: &[MetricRow], hidden: bool) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|r| r.kind.is_read() && r.horizon == 1) {
        if !subjects.contains(&row.subject.as_str()) {
            subjects.push(&row.subject);
        }
    }
    let find = |subject: &str, layer: i32, horizon: i32, metric: &str| {
        let same = |r: &&MetricRow| {
            (r.subject.as_str(), r.layer, r.horizon, r.metric.as_str()) == (subject, layer, horizon, metric)
                && r.unit != "bits/byte"
        };
        rows.iter().find(same).map_or_else(String::new, with_interval)
    };
    let all: BTreeSet<i32> = rows.iter().filter(|r| r.kind != RowKind::Baseline).map(|r| r.layer).collect();
    let mut text = String::new();
    let titles = [
        ("ce", if hidden { HIDDEN } else { "cross-entropy of the next token, nats" }),
        ("kl", "KL(model ‖ lens), nats"),
        ("agreement", "agreement: share of positions where the likeliest token is the model's"),
    ];
    for (metric, title) in titles {
        let mut table = Table::new(std::iter::once("layer").chain(subjects.iter().copied()));
        for &layer in &all {
            let cells: Vec<String> = subjects.iter().map(|s| find(s, layer, 1, metric)).collect();
            if cells.iter().any(|c| !c.is_empty()) {
                table.row(std::iter::once(layer.to_string()).chain(cells));
            }
        }
        if let Some(model) = rows.iter().find(|r| r.kind == RowKind::Model && r.metric == metric) {
            table.row(["model".to_owned(), with_interval(model)]);
        }
        let _ = write!(text, "{title} ({LEGEND})\n{table}\n");
    }
    text += &differences(rows, &all);
    let horizons: BTreeSet<i32> = rows.iter().map(|r| r.horizon).collect();
    if horizons.len() > 1 {
        text += &ahead(rows, &horizons);
    }
    text.trim_end().to_owned()
}

/// KL of every lens less that of the lenses before it, paired by document; nothing of one lens.
fn differences(rows: &[MetricRow], layers: &BTreeSet<i32>) -> String {
    let found: Vec<&MetricRow> =
        rows.iter().filter(|r| r.metric == "kl_difference" && r.horizon == 1).collect();
    let mut subjects: Vec<&str> = found.iter().map(|r| r.subject.as_str()).collect();
    subjects.dedup();
    subjects =
        subjects.iter().enumerate().filter(|(i, s)| !subjects[..*i].contains(s)).map(|(_, s)| *s).collect();
    if subjects.is_empty() {
        return String::new();
    }
    let mut table = Table::new(std::iter::once("layer").chain(subjects.iter().copied()));
    for &layer in layers {
        let find = |subject: &&str| found.iter().find(|r| r.layer == layer && r.subject == **subject);
        let cells: Vec<String> =
            subjects.iter().map(|s| find(s).map_or_else(String::new, |r| with_interval(r))).collect();
        if cells.iter().any(|c| !c.is_empty()) {
            table.row(std::iter::once(layer.to_string()).chain(cells));
        }
    }
    format!("KL(model ‖ lens) less that of another lens, nats ({LEGEND})\n{table}\n")
}

/// Accuracy of the true token, several tokens ahead.
fn ahead(rows: &[MetricRow], horizons: &BTreeSet<i32>) -> String {
    let headers = horizons.iter().map(|k| format!("+{k}"));
    let mut table = Table::new([String::new(), "layer".to_owned()].into_iter().chain(headers));
    let mut seen: Vec<(&str, i32)> = Vec::new();
    for row in rows
        .iter()
        .filter(|r| r.metric == "accuracy" && (r.kind == RowKind::Future || r.kind == RowKind::Baseline))
    {
        if !seen.contains(&(row.subject.as_str(), row.layer)) {
            seen.push((&row.subject, row.layer));
        }
    }
    for (subject, layer) in seen {
        let same = |r: &&MetricRow, k: i32| {
            r.subject == subject && r.layer == layer && r.horizon == k && r.metric == "accuracy"
        };
        let cells = horizons
            .iter()
            .map(|k| rows.iter().find(|r| same(r, *k)).map_or_else(String::new, with_interval));
        let baseline = rows.iter().any(|r| r.subject == subject && r.kind == RowKind::Baseline);
        let place = if baseline { String::new() } else { layer.to_string() };
        table.row([subject.to_owned(), place].into_iter().chain(cells));
    }
    format!("accuracy of the true token, that many tokens ahead\n{table}")
}
