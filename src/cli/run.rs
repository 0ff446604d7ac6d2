//! `run`: a job from a file.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser as _};
use toml::Value;

use super::{Cli, config, exit::Failure};

/// Run a job from a file: `command = "lens eval"` and its options, as --config has them
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The job
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,
    /// Options that win over the file's, as on the command's own line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    more: Vec<OsString>,
}

impl RunArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let place = self.job.display().to_string();
        let text =
            std::fs::read_to_string(&self.job).with_context(|| place.clone()).map_err(Failure::usage)?;
        let mut options =
            text.parse::<toml::Table>().map_err(|e| Failure::usage(anyhow!("{place}: {}", e.message())))?;
        let command = match options.remove("command") {
            Some(Value::String(command)) if !command.starts_with("run") => command,
            _ => return Err(Failure::usage(anyhow!("{place}: give `command`, such as \"lens eval\""))),
        };
        let words = command.split(' ').map(OsString::from);
        let mut argv: Vec<OsString> = std::iter::once("layerscope".into()).chain(words).collect();
        argv.extend(self.more);
        config::add(&mut argv, options, &self.job)?;
        let parsed =
            Cli::try_parse_from(argv).map_err(|e| Failure::usage(anyhow!("{place}: {}", first(&e))))?;
        super::run(parsed.command)
    }
}

/// What clap says, without the usage of a command line that nobody typed.
fn first(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
