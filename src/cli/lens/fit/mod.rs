//! `lens fit`.

mod report;

use clap::Args;
use layerscope::job::{
    Job as _,
    lens::{Fit, Fitted},
};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Fit a lens and write it to a folder
///
/// Streams: memory does not grow with the text beyond its token ids. Killed and repeated, it goes on from the last
/// checkpoint and ends with the same bytes.
#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    job: Fit,
    // The heading of the last options of a fit would hold for these, too.
    #[command(flatten, next_help_heading = None::<&'static str>)]
    output: OutputArgs,
}

impl FitArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let out = shown(&self.job.out);
        match self.job.run(&output)? {
            Fitted::Complete => output.result(json!({ "out": out, "complete": true }))?,
            Fitted::Maps(maps) => {
                output.note("next, on other text: `layerscope future` measures it");
                output.result(json!({ "out": out, "maps": maps }))?;
            }
            Fitted::Translators(held_out) => report::translators(&self.job, &held_out, output)?,
            Fitted::Jacobians(found) => report::jacobians(&self.job, &found, output)?,
            Fitted::Prompts(prompts) => report::prompts(&self.job, &prompts, output)?,
        }
        Ok(())
    }
}
