//! `lens concepts`.

use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    job::{Job as _, lens::Concepts},
    lens::concepts::KS,
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

/// Read prompts for words that their answers go through and that they do not say, under every lens
///
/// The smallest rank of such a word over the layers, at the prompt's last position, beside the same of another prompt's
/// words. A line of the file is an object: a prompt, and a list of its intermediates.
#[derive(Debug, Args)]
pub(crate) struct ConceptsArgs {
    #[command(flatten)]
    job: Concepts,
    #[command(flatten)]
    output: OutputArgs,
}

impl ConceptsArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(tables(&found.rows).trim_end())?;
        output.wrote(&self.job.out, "all numbers with their intervals, and those of every layer");
        output.result(json!({
            "out": shown(&self.job.out),
            "rows": found.rows.len(),
            "left_out": found.left_out,
        }))?;
        Ok(())
    }
}

/// Shares of words that come among the first k somewhere, their controls, and what one lens shows more than another.
pub(super) fn tables(rows: &[MetricRow]) -> String {
    let find = |row: &MetricRow, metric: &str| {
        let same = |other: &&MetricRow| other.subject == row.subject && other.metric == metric;
        rows.iter().find(same).map_or_else(String::new, with_interval)
    };
    let subjects = |kind: &dyn Fn(RowKind) -> bool, metric: &str| {
        rows.iter().filter(|row| kind(row.kind) && row.metric == metric).collect::<Vec<_>>()
    };
    let mut text = String::new();
    let numbers: Vec<String> = KS.iter().map(|k| format!("pass_at_{k}")).chain(["auc".to_owned()]).collect();
    let mut table = Table::new(
        ["lens", "words of"]
            .map(str::to_owned)
            .into_iter()
            .chain(KS.iter().map(|k| format!("first {k}")))
            .chain(["area".to_owned()]),
    );
    for row in subjects(&RowKind::is_read, "any_auc") {
        for (words, prefix) in [("the prompt", ""), ("another", "control_"), ("difference", "excess_")] {
            let cells = numbers.iter().map(|number| find(row, &format!("any_{prefix}{number}")));
            let cells: Vec<String> = cells.collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                table.row([row.subject.to_string(), words.to_owned()].into_iter().chain(cells));
            }
        }
    }
    let _ = write!(text, "words among the first k of some layer, shares ({LEGEND})\n{table}\n");
    let less = subjects(&|kind| kind == RowKind::Difference, "any_excess_auc_difference");
    if !less.is_empty() {
        let mut table = Table::new(["lens less lens", "first 10", "first 100", "area"]);
        for row in less {
            let cells = ["pass_at_10", "pass_at_100", "auc"]
                .map(|n| find(row, &format!("any_excess_{n}_difference")));
            table.row([row.subject.to_string()].into_iter().chain(cells));
        }
        let _ = write!(text, "differences beyond the control, of one lens less another\n{table}");
    }
    text
}
