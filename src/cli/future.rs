//! `future`.

mod report;

use clap::Args;
use layerscope::job::{Job as _, intervene::Future};
use serde_json::json;

use super::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Read later tokens off single states: lenses, fixed and learned prompts, and the controls that they need
///
/// The targets are the model's own greedy continuation. Prompts are fed its earlier tokens, so that only the difference
/// from a shuffled transplant (`information`) is in the state; `NAME:free` is fed nothing but what it said itself.
#[derive(Debug, Args)]
pub(crate) struct FutureArgs {
    #[command(flatten)]
    job: Future,
    #[command(flatten)]
    output: OutputArgs,
}

impl FutureArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let rows = self.job.run(&output)?.rows;
        output.print(&report::table(&rows))?;
        output.wrote(&self.job.out, "all numbers with their intervals");
        output.result(json!({
            "out": shown(&self.job.out), "rows": rows.len(), "best": report::best(&rows),
        }))?;
        Ok(())
    }
}
