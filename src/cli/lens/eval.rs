//! `lens eval`.

use clap::Args;
use layerscope::job::{Job as _, lens::Eval};
use serde_json::json;

use super::report;
use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::hint_clusters,
    output::{Output, shown},
};

/// Evaluate lenses on a text, every layer in one pass, with intervals over documents
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    job: Eval,
    #[command(flatten)]
    output: OutputArgs,
}

impl EvalArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(&report::layers(&found.rows, found.hidden))?;
        hint_clusters(&found.rows, output);
        output.wrote(&self.job.out, "all numbers with their intervals");
        output.result(json!({ "out": shown(&self.job.out), "rows": found.rows.len() }))?;
        Ok(())
    }
}
