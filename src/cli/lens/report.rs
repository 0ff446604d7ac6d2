//! Tables for people.

use std::{collections::BTreeSet, fmt::Write as _};

use layerscope::run::MetricRow;

use super::super::{output::Output, table::Table};

/// `1.234 ±0.012`, half the width of the interval.
pub(crate) fn with_interval(row: &MetricRow) -> String {
    match (row.lower, row.upper) {
        (Some(lower), Some(upper)) => format!("{:.3} ±{:.3}", row.estimate, (upper - lower) / 2.0),
        _ => format!("{:.3}", row.estimate),
    }
}

/// Says what gives intervals where one document gives none.
pub(crate) fn hint_clusters(rows: &[MetricRow], output: Output) {
    if rows.iter().all(|r| r.n_clusters < 2) {
        output.note("one document gives no interval; --cluster window resamples windows instead");
    }
}

/// CE, KL and agreement by layer and lens; of future lenses the accuracy by layer and horizon, beside their baselines.
pub(crate) fn layers(rows: &[MetricRow]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|r| r.kind != "model" && r.kind != "baseline" && r.horizon == 1) {
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
    let all: BTreeSet<i32> = rows.iter().filter(|r| r.kind != "baseline").map(|r| r.layer).collect();
    let mut text = String::new();
    let titles = [
        ("ce", "cross-entropy of the next token, nats"),
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
        if let Some(model) = rows.iter().find(|r| r.kind == "model" && r.metric == metric) {
            table.row(["model".to_owned(), with_interval(model)]);
        }
        let _ = write!(text, "{title} (± half of the 95 % interval)\n{table}\n");
    }
    let horizons: BTreeSet<i32> = rows.iter().map(|r| r.horizon).collect();
    if horizons.len() > 1 {
        text += &ahead(rows, &horizons);
    }
    text.trim_end().to_owned()
}

/// Accuracy of the true token, several tokens ahead.
fn ahead(rows: &[MetricRow], horizons: &BTreeSet<i32>) -> String {
    let headers = horizons.iter().map(|k| format!("+{k}"));
    let mut table = Table::new([String::new(), "layer".to_owned()].into_iter().chain(headers));
    let mut seen: Vec<(&str, i32)> = Vec::new();
    for row in rows.iter().filter(|r| r.metric == "accuracy" && (r.kind == "future" || r.kind == "baseline"))
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
        let baseline = rows.iter().any(|r| r.subject == subject && r.kind == "baseline");
        let place = if baseline { String::new() } else { layer.to_string() };
        table.row([subject.to_owned(), place].into_iter().chain(cells));
    }
    format!("accuracy of the true token, that many tokens ahead\n{table}")
}
