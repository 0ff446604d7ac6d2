//! `trace`.

mod prompts;
mod report;

use clap::Args;
use layerscope::job::{Job as _, intervene::Trace};

use super::{args::OutputArgs, exit::Failure, numbers::say_why_none, output::Output};

/// Patch every layer and position between a clean and a corrupted run: activation patching and causal tracing
///
/// Effects are on the scale where the corrupted run is 0 and the clean one is 1. Give a second prompt of as many tokens
/// (--corrupted), or the words whose embeddings get noise (--subject).
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    job: Trace,
    #[command(flatten)]
    output: OutputArgs,
}

impl TraceArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        if let Some(pair) = &found.pair {
            let piece = |id: i64| found.tokenizer.piece(id as u32).shown;
            output.print(&report::table(&self.job, &pair.levels, &pair.maps, &pair.tokens, &piece))?;
            if let Some(out) = &self.job.out {
                output.wrote(out, "every effect of every measure");
            }
            output.result(found.json())?;
            return Ok(());
        }
        output.print(prompts::means(&self.job, &found.rows, found.prompts).trim_end())?;
        say_why_none(&found.rows, output);
        if let Some(out) = &self.job.out {
            output.wrote(out, "every mean of every measure");
        }
        output.result(found.json())?;
        Ok(())
    }
}
