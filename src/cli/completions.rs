use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, exit::Failure, output::write_out};

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "layerscope", &mut script);
        Ok(write_out(&String::from_utf8_lossy(&script))?)
    }
}
