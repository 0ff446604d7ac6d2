//! `lens`: fitting, evaluating, transferring and checking lenses.

mod audit;
mod causal;
mod concepts;
mod eval;
mod fit;
mod import;
mod report;
mod transfer;
mod vectors;

use super::exit::Failure;
use clap::{Args, Subcommand};

/// Fit lenses, evaluate them, measure how they transfer between layers, and whether they go by what the model goes by
#[derive(Debug, Args)]
pub(crate) struct LensCommand {
    #[command(subcommand)]
    command: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    Fit(Box<fit::FitArgs>),
    Eval(Box<eval::EvalArgs>),
    Transfer(Box<transfer::TransferArgs>),
    Causal(Box<causal::CausalArgs>),
    Import(Box<import::ImportLensArgs>),
    Concepts(Box<concepts::ConceptsArgs>),
    Vectors(Box<vectors::VectorsArgs>),
    Audit(Box<audit::AuditArgs>),
}

impl LensCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Which::Fit(command) => command.run(),
            Which::Eval(command) => command.run(),
            Which::Transfer(command) => command.run(),
            Which::Causal(command) => command.run(),
            Which::Import(command) => command.run(),
            Which::Concepts(command) => command.run(),
            Which::Vectors(command) => command.run(),
            Which::Audit(command) => command.run(),
        }
    }
}
