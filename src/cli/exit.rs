//! How a command ends: one line on stderr, and the exit code of the contract.

use std::{fmt, io, process::ExitCode};

use layerscope::job::{Ending, JobError, ending_of};

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

/// Messages quote files that somebody else wrote: control and bidirectional characters must not reach the terminal.
pub(crate) fn one_line(message: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let safe = |c: char| match c {
        '\n' => " ".to_owned(),
        c if hidden(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    message.chars().map(safe).collect()
}

/// What the user named and is not there, and folders that hold other work: exit 2. Everything else failed on the way: exit 1.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = anyhow::Error::from(error);
        let ending = error.downcast_ref::<JobError>().map_or_else(|| ending_of(&*error), JobError::ending);
        let code = match ending {
            Ending::Failed => 1,
            Ending::Usage => 2,
            Ending::Check => 3,
            Ending::Interrupted => 4,
        };
        Self { code, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_draw_on_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}"), "a b\\u{1b}[31m\\u{202e}");
    }
}
