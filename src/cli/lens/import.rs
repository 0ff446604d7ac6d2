//! `lens import`.

use clap::Args;
use layerscope::job::{Job as _, lens::ImportLens};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Read a Jacobian lens that another tool fitted (a .pt of the reference, TransformerLens, vllm-lens, saklas or
/// Neuronpedia), and write it as a lens folder
///
/// The file's layer k is what leaves block k: layer k + 1 here. Nothing in it is executed.
#[derive(Debug, Args)]
pub(crate) struct ImportLensArgs {
    #[command(flatten)]
    job: ImportLens,
    #[command(flatten)]
    output: OutputArgs,
}

impl ImportLensArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(&found.said(&self.job.out))?;
        output.result(json!({
            "out": shown(&self.job.out),
            "layers": found.layers,
            "prompts": found.prompts,
        }))?;
        Ok(())
    }
}
