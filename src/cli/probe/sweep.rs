//! `probe sweep`.

use clap::Args;
use layerscope::{
    job::{Job as _, probe::Sweep},
    results::run::RowKind,
};
use serde_json::json;

use super::report;
use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Fit probes to labelled data at every layer, with baselines, controls and intervals
///
/// Killed and repeated, it goes on with the cells that are missing and ends with the same bytes.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    job: Sweep,
    #[command(flatten)]
    output: OutputArgs,
}

impl SweepArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(&report::table(&found.rows, RowKind::Probe))?;
        let out = shown(&self.job.out);
        let Some(new) = found.new else {
            output.result(json!({ "out": out, "complete": true }))?;
            return Ok(());
        };
        if let Some(why) = new.undefined {
            output.warn(why);
        }
        report::summaries(&new.summaries, output);
        output.wrote(&self.job.out, "all numbers with their intervals");
        let best = report::best(&new.summaries);
        output.result(json!({ "out": out, "rows": found.rows.len(), "best": best }))?;
        Ok(())
    }
}
