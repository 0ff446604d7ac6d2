//! `probe`: what a linear reader finds in every layer.

mod apply;
mod law;
mod report;
mod sweep;
mod transfer;

use clap::{Args, Subcommand};

use super::exit::Failure;

/// Fit probes to labelled data at every layer, and test the law of next-token prediction
#[derive(Debug, Args)]
pub(crate) struct ProbeCommand {
    #[command(subcommand)]
    command: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    Sweep(Box<sweep::SweepArgs>),
    Law(Box<law::LawArgs>),
    Transfer(Box<transfer::TransferArgs>),
    Apply(Box<apply::ApplyArgs>),
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
