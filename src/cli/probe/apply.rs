//! `probe apply`.

use clap::Args;
use layerscope::{
    job::{Job as _, probe::Apply},
    probe::SCORES,
    results::run::RowKind,
};
use serde_json::json;

use super::report;
use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Score other labelled data with saved probes
///
/// Nothing is fitted: `probe sweep` writes RUN/probes, and this reads them on the data at hand, at the layers they were
/// fitted on.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    job: Apply,
    #[command(flatten)]
    output: OutputArgs,
}

impl ApplyArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let rows = self.job.run(&output)?.rows;
        let out = &self.job.out;
        output.print(&report::table(&rows, RowKind::Applied))?;
        output.note(format!("{}: what every probe says of every item", out.join(SCORES).display()));
        output.result(json!({ "out": shown(out), "rows": rows.len() }))?;
        Ok(())
    }
}
