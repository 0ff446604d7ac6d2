//! `steer`: directions added to the residual stream, swept by layer and strength beside random ones.

mod report;

use clap::Args;
use layerscope::job::{Job as _, intervene::Steer};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Add a direction to the residual stream at every layer and strength, and measure what follows beside random
/// directions
#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    #[command(flatten)]
    job: Steer,
    #[command(flatten)]
    output: OutputArgs,
}

impl SteerArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        report::show(&self.job.out, &found.rows, output)
    }
}
