//! `convert`.

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        convert::{Convert, Target},
    },
    results::words::counted,
};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Write a finished run in the files of another tool: nothing is computed, no model is needed
///
/// Exports (and imports) become datasets and caches of activations, views the page of another widget, Jacobian
/// lenses a .pt, probes and directions vectors.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    job: Convert,
    #[command(flatten)]
    output: OutputArgs,
}

impl ConvertArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        let what = match self.job.to {
            Target::Hf => "row",
            Target::Saelens => "context",
            Target::VllmLens => "response",
            Target::Logitlenskit => "page",
            Target::JacobianLens => "layer",
            Target::Neuronpedia => "vector",
        };
        output.print(&format!("{}: {}", self.job.out.display(), counted(found.records, what)))?;
        output.result(self.job.json(found))?;
        Ok(())
    }
}
