//! `rerun`: a finished run once more.

use std::path::PathBuf;

use clap::Args;
use layerscope::{job::rerun, results::words::counted};
use serde_json::json;

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Run a finished run again, from its manifest, and compare every file; exit 3 when one differs
#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Folder to write and keep; by default one that is removed afterwards
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl RerunArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = rerun(&self.run, self.out.as_deref(), &output)?;
        output.result(json!({
            "command": found.command, "same": found.same, "different": found.different,
        }))?;
        if found.different.is_empty() {
            let files = counted(found.same.len(), "file");
            output.print(&format!("{}: {files}, all the same bytes", found.command))?;
            return Ok(());
        }
        let all = found.same.len() + found.different.len();
        let differ = found.different.join(", ");
        Err(Failure::check(format!("{} of {} differ: {differ}", found.different.len(), counted(all, "file"))))
    }
}
