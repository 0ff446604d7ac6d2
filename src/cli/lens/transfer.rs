//! `lens transfer`.

use clap::Args;
use layerscope::{
    job::{Job as _, lens::Transfer},
    results::run::{MetricRow, RowKind},
};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::hint_clusters,
    output::{Output, shown},
    table::Table,
};

/// Measure how translators of one layer read the states of every other, and whether one lens serves all
///
/// One half of the documents gives moments (geometry, corrections, the constant predictor), the other is measured on.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    job: Transfer,
    #[command(flatten)]
    output: OutputArgs,
}

impl TransferArgs {
    /// Prints the matrix and the verdict.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(&if self.job.lens.is_empty() {
            geometry(&found.rows)
        } else {
            penalties(&found.rows)
        })?;
        output.print(&found.verdict)?;
        hint_clusters(&found.rows, output);
        output.wrote(&self.job.out, "both penalties, KL, agreement, corrections, geometry");
        let out = shown(&self.job.out);
        output.result(json!({ "out": out, "rows": found.rows.len(), "verdict": found.verdict }))?;
        Ok(())
    }
}

/// `penalty_state` by lens layer (rows) and state layer (columns).
fn penalties(rows: &[MetricRow]) -> String {
    let table = matrix(rows, "lens\\state", &|r| r.kind == RowKind::Transfer && r.metric == "penalty_state");
    format!("penalty_state = CE[lens i, state j] - CE[lens j, state j], nats\n{table}")
}

/// How alike two layers are, the earlier one in the row.
fn geometry(rows: &[MetricRow]) -> String {
    let table = matrix(rows, "from\\to", &|r| r.kind == RowKind::Geometry && r.metric == "cka");
    format!("linear CKA of two layers' states\n{table}")
}

/// The rows that count, by source layer and layer.
fn matrix(rows: &[MetricRow], corner: &str, of: &dyn Fn(&MetricRow) -> bool) -> Table {
    let both = |r: &MetricRow| [Some(r.layer), r.source_layer].into_iter().flatten();
    let mut layers: Vec<i32> = rows.iter().filter(|r| of(r)).flat_map(both).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut table =
        Table::new(std::iter::once(corner.to_owned()).chain(layers.iter().map(ToString::to_string)));
    for &i in &layers {
        let cell = |j: &i32| {
            let same = |r: &&MetricRow| of(r) && r.layer == *j && r.source_layer == Some(i);
            rows.iter().find(same).map_or_else(String::new, |r| format!("{:.3}", r.estimate))
        };
        table.row(std::iter::once(i.to_string()).chain(layers.iter().map(cell)));
    }
    table
}
