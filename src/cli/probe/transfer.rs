//! `probe transfer`.

use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    job::{Job as _, probe::Transfer},
    results::run::{MetricRow, RowKind},
};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, with_interval},
    output::{Output, shown},
    table::Table,
};

/// Test probes on other data sets and at other layers than they were fitted on
///
/// Each --data file is a set with its own split; all have the same classes.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    job: Transfer,
    #[command(flatten)]
    output: OutputArgs,
}

impl TransferArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let rows = self.job.run(&output)?.rows;
        let metric = rows.first().map_or("accuracy", |row| row.metric.as_str());
        let text = across(&rows, metric) + &within(&rows, metric);
        output.print(text.trim_end())?;
        output.wrote(&self.job.out, "all numbers with their intervals");
        output.result(json!({ "out": shown(&self.job.out), "rows": rows.len() }))?;
        Ok(())
    }
}

/// At every layer, every set's probe on every set.
fn across(rows: &[MetricRow], metric: &str) -> String {
    let across = || rows.iter().filter(|r| r.kind == RowKind::Generalisation && r.metric == metric);
    let pairs = subjects(across());
    let mut table = Table::new(["layer"].into_iter().chain(pairs.iter().copied()));
    for (hook, layer) in &layers(rows.iter().filter(|r| r.kind == RowKind::Generalisation)) {
        let cell = |pair: &&str| {
            let row = across().find(|r| r.subject == *pair && (r.hook.as_str(), r.layer) == (hook, *layer));
            row.map_or_else(String::new, with_interval)
        };
        table.row(std::iter::once(format!("{hook} {layer}")).chain(pairs.iter().map(cell)));
    }
    format!("{metric} of a probe fitted on one set and tested on another ({LEGEND})\n{table}")
}

/// Of each set every layer's probe on every layer.
fn within(rows: &[MetricRow], metric: &str) -> String {
    let within = || rows.iter().filter(|r| r.kind == RowKind::ProbeTransfer);
    let mut text = String::new();
    for subject in subjects(within()) {
        let own = || within().filter(|r| r.subject == subject);
        let places = layers(own());
        let columns = places.iter().map(|(_, layer)| layer.to_string());
        let mut table = Table::new(["layer of the probe".to_owned()].into_iter().chain(columns));
        for (hook, from) in &places {
            let cell = |(other, to): &(&str, i32)| {
                let same = |r: &&MetricRow| {
                    (r.hook.as_str(), r.layer, r.source_layer) == (*other, *to, Some(*from)) && hook == other
                };
                own().find(same).map_or_else(String::new, |r| format!("{:.3}", r.estimate))
            };
            table.row(std::iter::once(format!("{hook} {from}")).chain(places.iter().map(cell)));
        }
        let _ = write!(
            text,
            "\n{subject}: {metric} of a layer's probe (rows) on a layer's states (columns)\n{table}"
        );
    }
    text
}

/// Subjects, in the order in which they come.
fn subjects<'a>(rows: impl Iterator<Item = &'a MetricRow>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for row in rows {
        if !all.contains(&row.subject.as_str()) {
            all.push(&row.subject);
        }
    }
    all
}

/// Hooks and layers, in order.
fn layers<'a>(rows: impl Iterator<Item = &'a MetricRow>) -> Vec<(&'a str, i32)> {
    let mut places: Vec<(&str, i32)> = rows.map(|r| (r.hook.as_str(), r.layer)).collect();
    places.sort_unstable();
    places.dedup();
    places
}
