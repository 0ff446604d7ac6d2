//! What a sweep over strengths found, in the terminal.

use std::path::Path;

use layerscope::{
    intervene::steer::TOGETHER,
    results::run::{MetricRow, Parts, RowKind},
    results::words::counted,
};
use serde_json::{Value, json};

use super::super::{
    exit::Failure,
    numbers::{LEGEND, hint_clusters, with_interval},
    output::{Output, shown},
    table::Table,
};

/// A table per measure: a row per layer and direction, a column per strength.
pub(super) fn show(out: &Path, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    for (kinds, title) in [
        (
            &[RowKind::SteerPairs][..],
            "what the pairs differ in: cosine of a pair's difference with the others' mean, and the share along the first component",
        ),
        (
            &[RowKind::SteerSentence, RowKind::SteerRandom],
            "vectors that make the model say the sentence, and random ones as long: nats per token, share said greedily, length",
        ),
    ] {
        let pushed =
            |r: &MetricRow| matches!(r.subject.parts(), Parts::Pushed { .. } | Parts::RandomMean { .. });
        let found: Vec<&MetricRow> = rows.iter().filter(|r| kinds.contains(&r.kind) && !pushed(r)).collect();
        if !found.is_empty() {
            text.extend([title, "\n", &by_metric(&found).to_string(), "\n"]);
        }
    }
    let kl =
        format!("KL(model ‖ steered), nats ({LEGEND}; #: rank among the random directions, 1 the farthest)");
    let wanted = [("kl", kl.as_str()), ("response", "change of the logit difference, nats")];
    for (metric, title) in wanted {
        let found: Vec<&MetricRow> = rows.iter().filter(|r| r.metric == metric).collect();
        if found.is_empty() {
            continue;
        }
        text.extend([title, "\n", &table(&found, rows).to_string(), "\n"]);
    }
    output.print(text.trim_end())?;
    hint_clusters(rows, output);
    for metric in ["response", "kl"] {
        if let Some(line) = placed(rows, metric) {
            output.note(line);
        }
    }
    output.wrote(out, "all numbers with their intervals");
    let lines: Vec<Value> = rows
        .iter()
        .filter(|r| r.metric.starts_with("response_") || r.metric.starts_with("kl_"))
        .map(|r| json!({ "direction": r.subject, "layer": r.layer, "metric": r.metric, "estimate": r.estimate, "lower": r.lower, "upper": r.upper, "reason": r.reason }))
        .collect();
    output.result(json!({ "out": shown(out), "rows": rows.len(), "lines": lines }))?;
    Ok(())
}

/// How many settings go farther than every random direction, and how many would by chance.
fn placed(rows: &[MetricRow], metric: &str) -> Option<String> {
    let ranks: Vec<&MetricRow> = rows.iter().filter(|r| r.metric == format!("{metric}_rank")).collect();
    let random = ranks.first()?.n;
    let first = ranks.iter().filter(|r| r.estimate <= 1.0).count();
    let what = if metric == "kl" { "KL" } else { "response" };
    Some(format!(
        "{what} beyond that of all {random} random directions in {first} of {} (p = {:.3} each; {:.1} by chance)",
        counted(ranks.len(), "setting"),
        1.0 / (random as f64 + 1.0),
        ranks.len() as f64 / (random as f64 + 1.0)
    ))
}

/// One of the random directions, which stand in the table together.
fn is_one_of_many(row: &MetricRow) -> bool {
    row.kind == RowKind::SteerRandom && !matches!(row.subject.parts(), Parts::RandomMean { .. })
}

/// A line per layer and direction. Random directions are pushed to one side, which stands for the other.
fn table(found: &[&MetricRow], rows: &[MetricRow]) -> Table {
    let parts = |row: &MetricRow| match row.subject.parts() {
        Parts::Pushed { of, strength } => (of.clone(), *strength),
        Parts::RandomMean { strength } => (TOGETHER.to_owned(), *strength),
        _ => (row.subject.to_string(), 0.0),
    };
    let (mut lines, mut strengths): (Vec<(String, i32)>, Vec<f64>) = (Vec::new(), Vec::new());
    for row in found.iter().filter(|row| !is_one_of_many(row)) {
        let (name, strength) = parts(row);
        if !lines.contains(&(name.clone(), row.layer)) {
            lines.push((name, row.layer));
        }
        if row.kind == RowKind::Steer && !strengths.contains(&strength) {
            strengths.push(strength);
        }
    }
    lines.sort_by_key(|(_, layer)| *layer);
    let metric = found.first().map_or("", |r| r.metric.as_str());
    let response = metric == "response";
    let more: &[&str] = if response { &["slope", "Pearson's r"] } else { &[] };
    let headers = ["layer", "direction"].into_iter().map(str::to_owned);
    let headers = headers.chain(strengths.iter().map(|strength| format!("{strength:+}")));
    let mut table = Table::new(headers.chain(more.iter().map(|name| (*name).to_owned())));
    for (name, layer) in lines {
        let cell = |strength: &f64| {
            let at = |strength: f64| {
                found.iter().find(|r| r.layer == layer && parts(r) == (name.clone(), strength))
            };
            let own = at(*strength).or_else(|| at(strength.abs()));
            own.map_or_else(String::new, |r| with_interval(r) + &place(rows, r))
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

/// `  #3/21` of a number that is ranked, ` (0.1 to 0.4)` of random directions together.
fn place(rows: &[MetricRow], row: &MetricRow) -> String {
    let more = |what: &str| {
        let metric = format!("{}_{what}", row.metric);
        rows.iter().find(|r| r.metric == metric && r.subject == row.subject && r.layer == row.layer)
    };
    match (more("rank"), more("least"), more("most")) {
        (Some(rank), ..) => format!(" #{}/{}", rank.estimate, rank.n + 1),
        (_, Some(least), Some(most)) => format!(" ({:.3} to {:.3})", least.estimate, most.estimate),
        _ => String::new(),
    }
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
