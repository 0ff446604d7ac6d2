//! What a sweep over strengths found, in the terminal.

use std::path::Path;

use layerscope::run::MetricRow;
use serde_json::{Value, json};

use super::super::{
    exit::Failure,
    lens::{hint_clusters, with_interval},
    output::{Output, shown},
    table::Table,
};

/// A table per measure: a row per layer and direction, a column per strength.
pub(super) fn show(out: &Path, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    for (kind, title) in [
        (
            "steer-pairs",
            "what the pairs differ in: cosine of a pair's difference with the others' mean, and the share along the first component",
        ),
        (
            "steer-sentence",
            "vectors that make the model say the sentence, and random ones as long: nats per token, share said greedily, length",
        ),
    ] {
        let found: Vec<&MetricRow> = rows
            .iter()
            .filter(|r| r.kind == kind || (kind == "steer-sentence" && r.subject.ends_with("-random")))
            .collect();
        if found.iter().any(|r| r.kind == kind) {
            text.extend([title, "\n", &by_metric(&found).to_string(), "\n"]);
        }
    }
    let wanted = [
        ("kl", "KL(model ‖ steered), nats (± half of the 95 % interval)"),
        ("response", "change of the logit difference, nats"),
    ];
    for (metric, title) in wanted {
        let found: Vec<&MetricRow> = rows.iter().filter(|r| r.metric == metric).collect();
        if found.is_empty() {
            continue;
        }
        text.extend([title, "\n", &table(&found, rows).to_string(), "\n"]);
    }
    output.print(text.trim_end())?;
    hint_clusters(rows, output);
    output.wrote(out, "all numbers with their intervals");
    let lines: Vec<Value> = rows
        .iter()
        .filter(|r| r.metric.starts_with("response_"))
        .map(|r| json!({ "direction": r.subject, "layer": r.layer, "metric": r.metric, "estimate": r.estimate, "lower": r.lower, "upper": r.upper }))
        .collect();
    output.result(json!({ "out": shown(out), "rows": rows.len(), "lines": lines }))?;
    Ok(())
}

fn table(found: &[&MetricRow], rows: &[MetricRow]) -> Table {
    let parts = |row: &MetricRow| {
        row.subject
            .rsplit_once('@')
            .map_or((row.subject.clone(), String::new()), |(a, b)| (a.to_owned(), b.to_owned()))
    };
    let (mut lines, mut strengths): (Vec<(String, i32)>, Vec<String>) = (Vec::new(), Vec::new());
    for row in found {
        let (name, strength) = parts(row);
        if !lines.contains(&(name.clone(), row.layer)) {
            lines.push((name, row.layer));
        }
        if !strengths.contains(&strength) {
            strengths.push(strength);
        }
    }
    lines.sort_by_key(|(_, layer)| *layer);
    let response = found.first().is_some_and(|r| r.metric == "response");
    let more: &[&str] = if response { &["slope", "Pearson's r"] } else { &[] };
    let headers = ["layer", "direction"].into_iter().chain(strengths.iter().map(String::as_str));
    let mut table = Table::new(headers.chain(more.iter().copied()));
    for (name, layer) in lines {
        let cell = |strength: &String| {
            let own = found.iter().find(|r| r.layer == layer && parts(r) == (name.clone(), strength.clone()));
            own.map_or_else(String::new, |r| with_interval(r))
        };
        let line = |metric: &str| {
            let own = rows.iter().find(|r| r.layer == layer && r.subject == name && r.metric == metric);
            own.map_or_else(String::new, with_interval)
        };
        let more = more
            .iter()
            .map(|which| line(if *which == "slope" { "response_slope" } else { "response_pearson" }));
        table
            .row([layer.to_string(), name.clone()].into_iter().chain(strengths.iter().map(cell)).chain(more));
    }
    table
}

/// A row per layer, a column per subject and metric.
fn by_metric(found: &[&MetricRow]) -> Table {
    let (mut columns, mut layers): (Vec<(&str, &str)>, Vec<i32>) = (Vec::new(), Vec::new());
    for row in found {
        let column = (row.subject.as_str(), row.metric.as_str());
        if !columns.contains(&column) {
            columns.push(column);
        }
        layers.push(row.layer);
    }
    layers.sort_unstable();
    layers.dedup();
    let names = columns.iter().map(|(subject, metric)| format!("{subject} {metric}"));
    let mut table = Table::new(std::iter::once("layer".to_owned()).chain(names));
    for layer in layers {
        let cell = |(subject, metric): &(&str, &str)| {
            let own = found.iter().find(|r| r.layer == layer && r.subject == *subject && r.metric == *metric);
            own.map_or_else(String::new, |r| with_interval(r))
        };
        table.row(std::iter::once(layer.to_string()).chain(columns.iter().map(cell)));
    }
    table
}
