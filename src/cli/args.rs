//! Arguments that several commands share.

use std::path::PathBuf;

use clap::Args;

/// How to talk.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Newline-delimited JSON on stdout, ending in one `result` object
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress and no notes on stderr; warnings and errors stay
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Options from a TOML file; those on the command line win
    #[arg(long, value_name = "FILE.toml")]
    #[allow(dead_code)] // taken off the command line before clap sees it; declared for --help
    config: Option<PathBuf>,
}
