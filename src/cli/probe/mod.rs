//! `probe`: what a linear reader finds in every layer.

mod apply;
mod args;
mod labels;
mod law;
mod report;
pub(super) mod saved;
mod sweep;
mod transfer;

use clap::{Args, Subcommand};
use layerscope::probe::ProbeError;

use super::exit::Failure;

/// Fit probes to labelled data at every layer, and test the law of next-token prediction
#[derive(Debug, Args)]
pub(crate) struct ProbeCommand {
    #[command(subcommand)]
    command: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    Sweep(Box<args::SweepArgs>),
    Law(Box<law::LawArgs>),
    Transfer(Box<transfer::TransferArgs>),
    Apply(Box<apply::ApplyArgs>),
}

/// A stop that a repeated command goes on from, or a failure.
fn ended(error: ProbeError) -> Failure {
    match error {
        ProbeError::Interrupted => Failure::interrupted(error),
        other => Failure::failed(other),
    }
}

impl ProbeCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Which::Sweep(command) => command.run(),
            Which::Law(command) => command.run(),
            Which::Transfer(command) => command.run(),
            Which::Apply(command) => command.run(),
        }
    }
}
