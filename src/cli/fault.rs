//! `fault`: a panic on purpose, so that the last net can be tried out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use layerscope::results::run::{Manifest, RunDir};
use rayon::prelude::*;

use super::exit::Failure;

/// Where the panic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// The thread that runs the command
    Main,
    /// A worker of the thread pool
    Worker,
    /// A thread that was started for it
    Thread,
    /// While another panic is being cleaned up
    Cleanup,
    /// Where it is caught
    Caught,
}

/// Panic on purpose: what a fault of the program looks like
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Fault {
    /// Where
    #[arg(value_enum)]
    place: Place,
    /// A run to be in the middle of
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
}

/// Panics when it is dropped.
struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        panic!("dropped on purpose");
    }
}

impl Fault {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let run = |out: PathBuf| RunDir::start(&out, Manifest::new("fault"), false, &|_| false);
        let _run = self.out.map(run).transpose()?;
        match self.place {
            Place::Main => panic!("on purpose,\nin the main thread"),
            Place::Worker => [0, 1].par_iter().for_each(|i| assert!(*i == 0, "on purpose, in a worker")),
            Place::Thread => std::thread::scope(|scope| {
                scope.spawn(|| panic!("on purpose, in a thread"));
            }),
            Place::Cleanup => {
                let _late = Late;
                panic!("on purpose, before cleaning up");
            }
            Place::Caught => {
                let _caught = std::panic::catch_unwind(|| panic!("on purpose, and caught"));
            }
        }
        Ok(())
    }
}
