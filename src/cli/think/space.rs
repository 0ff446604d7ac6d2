//! `think space`: are a layer's states and the token embeddings one space?

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        intervene::{SpaceMeasured, ThinkSpace},
    },
    results::run::{MetricRow, Parts, RowKind},
};
use serde_json::{Value, json};

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, say_why_none, with_interval},
    output::{Output, shown},
    table::Table,
};

/// Compare every layer's states with the token embeddings: could one be read as the other?
#[derive(Debug, Args)]
pub(crate) struct SpaceArgs {
    #[command(flatten)]
    job: ThinkSpace,
    #[command(flatten)]
    output: OutputArgs,
}

impl SpaceArgs {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let SpaceMeasured { tied, rows } = self.job.run(&output)?;
        let text = [
            format!("states beside the embedding of their own token (same positions; {LEGEND})"),
            likeness(&rows, "embedding").to_string(),
            "states beside the embedding of the next token".to_owned(),
            likeness(&rows, "next-embedding").to_string(),
            "share of the states' variance in the embedding matrix's first principal components (a random subspace's: the mean of twenty and their range)".to_owned(),
            shares(&rows).to_string(),
        ];
        output.print(text.join("\n").trim_end())?;
        say_why_none(&rows, output);
        output.wrote(&self.job.out, "all numbers");
        let lines: Vec<Value> = rows
            .iter()
            .map(|r| {
                json!({ "subject": r.subject, "hook": r.hook, "layer": r.layer, "metric": r.metric,
                             "estimate": r.estimate, "lower": r.lower, "upper": r.upper })
            })
            .collect();
        let out = shown(&self.job.out);
        output.result(json!({ "out": out, "tied": tied, "rows": rows.len(), "numbers": lines }))?;
        Ok(())
    }
}

/// Hook and layer of the rows, in their order.
fn places(rows: &[MetricRow]) -> Vec<(String, i32)> {
    let mut places: Vec<(String, i32)> = Vec::new();
    for row in rows.iter().filter(|r| r.hook != "embed") {
        let place = (row.hook.clone(), row.layer);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn name((hook, layer): &(String, i32)) -> String {
    if hook == "resid_pre" { layer.to_string() } else { format!("{layer}, normed") }
}

fn find<'a>(
    rows: &'a [MetricRow],
    subject: &str,
    metric: &str,
    place: &(String, i32),
) -> Option<&'a MetricRow> {
    let own = |r: &&MetricRow| {
        r.subject == subject && r.metric == metric && (&r.hook, r.layer) == (&place.0, place.1)
    };
    rows.iter().find(own)
}

fn likeness(rows: &[MetricRow], subject: &str) -> Table {
    let columns = [
        ("CKA", "cka"),
        ("Procrustes (0 to 2)", "procrustes_distance"),
        ("cosine", "cosine"),
        ("centred cosine", "cosine_centred"),
    ];
    let mut table = Table::new(std::iter::once("layer").chain(columns.map(|(name, _)| name)));
    for place in places(rows) {
        let cell = |(_, metric): &(&str, &str)| {
            find(rows, subject, metric, &place).map_or_else(|| "–".into(), with_interval)
        };
        table.row(std::iter::once(name(&place)).chain(columns.iter().map(cell)));
    }
    table
}

/// The share of the embeddings' variance that a row is of.
fn share(row: &MetricRow) -> f64 {
    match row.subject.parts() {
        Parts::Share { share, .. } => *share,
        _ => 1.0,
    }
}

fn shares(rows: &[MetricRow]) -> Table {
    let counts: Vec<&MetricRow> = rows.iter().filter(|r| r.metric == "components").collect();
    let header = |r: &&MetricRow| format!("for {} % ({} dimensions)", share(r) * 100.0, r.estimate);
    let mut table = Table::new(std::iter::once("layer".to_owned()).chain(counts.iter().map(header)));
    for place in places(rows) {
        let cell = |count: &&MetricRow| {
            let random = Parts::Share { of: "random".into(), share: share(count) }.to_string();
            let value = |subject: &str| {
                let row = find(rows, subject, "variance_share", &place);
                let random = |r: &MetricRow| r.kind == RowKind::SpaceRandom; // its range comes behind
                let shown =
                    |r: &MetricRow| if random(r) { format!("{:.3}", r.estimate) } else { with_interval(r) };
                row.map_or_else(|| "–".into(), shown)
            };
            let range = find(rows, &random, "variance_share", &place).and_then(|r| r.lower.zip(r.upper));
            let range = range.map_or_else(String::new, |(least, most)| format!(", {least:.3} to {most:.3}"));
            format!("{} ({}{range})", value(&count.subject), value(&random))
        };
        table.row(std::iter::once(name(&place)).chain(counts.iter().map(cell)));
    }
    table
}
