//! How a command ends: one line on stderr, and the exit code of the contract.

use std::{fmt, io, process::ExitCode};

pub(crate) use layerscope::job::one_line;
use layerscope::job::{JobError, ending_of};

use super::output::say;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Wrong arguments or configuration: exit 2.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }

    /// A check that did not pass: exit 3.
    pub(crate) fn check(message: impl fmt::Display) -> Self {
        Self { code: 3, error: anyhow::anyhow!("{message}") }
    }

    /// The error and its causes; a cause that its effect has quoted already is left out.
    fn whole(&self) -> String {
        self.error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
            if line.is_empty() {
                cause
            } else if line.contains(&cause) {
                line
            } else {
                format!("{line}: {cause}")
            }
        })
    }

    /// Prints the whole chain on one line.
    pub(crate) fn report(self) -> ExitCode {
        let io = self.error.chain().find_map(|e| e.downcast_ref::<io::Error>());
        if io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS; // whoever read our output has seen enough
        }
        say(&format!("error: {}", one_line(&self.whole())));
        ExitCode::from(self.code)
    }
}

/// What the user named and is not there, and folders that hold other work: exit 2. Everything else failed on the way:
/// exit 1.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = anyhow::Error::from(error);
        let ending = error.downcast_ref::<JobError>().map_or_else(|| ending_of(&*error), JobError::ending);
        Self { code: ending.code(), error }
    }
}
