//! How a command ends: one line on stderr, and the exit code of the contract.

use std::{fmt, io, process::ExitCode};

use layerscope::{
    lens::artifact::ArtifactError, results::run::RunError, sources::hub::HubError,
    sources::labelled::LabelledError, sources::text::TextError, states::store::StoreError,
};

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

    /// Something went wrong on the way: exit 1.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 1, error: error.into() }
    }

    /// A check that did not pass: exit 3.
    pub(crate) fn check(message: impl fmt::Display) -> Self {
        Self { code: 3, error: anyhow::anyhow!("{message}") }
    }

    /// Stopped on the way, and can go on: exit 4.
    pub(crate) fn interrupted(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 4, error: error.into() }
    }

    /// The same of a place in a file.
    pub(crate) fn at(self, place: &str) -> Self {
        Self { error: self.error.context(place.to_owned()), ..self }
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
        Self { code: if error.chain().any(is_configuration) { 2 } else { 1 }, error }
    }
}

/// Whether the cause of a failure is in the command line, not in the work or its data.
fn is_configuration(cause: &(dyn std::error::Error + 'static)) -> bool {
    // A transparent error hides what it wraps from the chain.
    let run = match cause.downcast_ref::<StoreError>() {
        Some(StoreError::Run(error)) => Some(error),
        _ => cause.downcast_ref::<RunError>(),
    };
    let text = match cause.downcast_ref::<LabelledError>() {
        Some(LabelledError::Text(error)) => Some(error),
        _ => cause.downcast_ref::<TextError>(),
    };
    if let Some(error) = run {
        return match error {
            RunError::Foreign { .. } | RunError::DifferentJob { .. } => true,
            RunError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<HubError>() {
        return error.is_usage();
    }
    if let Some(error) = text {
        return matches!(
            error,
            TextError::NoInput
                | TextError::NoSuchFile(_)
                | TextError::IsFolder(_)
                | TextError::UnknownExtension { .. }
                | TextError::StdinTwice
                | TextError::CannotStream { .. }
                | TextError::Folder { .. }
                | TextError::NoColumn { .. }
                | TextError::NoBos { .. }
                | TextError::NoEos
                | TextError::SeqLen { .. }
                | TextError::NoTokensAsked
        );
    }
    if let Some(ArtifactError::Io { source, .. }) = cause.downcast_ref::<ArtifactError>() {
        return source.kind() == io::ErrorKind::NotFound;
    }
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_not_there_is_configuration() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let path = || PathBuf::from("x");
        let code = |failure: Failure| failure.code;
        assert_eq!(code(TextError::NoSuchFile(path()).into()), 2);
        assert_eq!(code(RunError::io("read", &path(), missing()).into()), 2);
        assert_eq!(code(ArtifactError::Io { path: path(), source: missing() }.into()), 2);
        assert_eq!(code(HubError::NoCache.into()), 2);
        assert_eq!(code(missing().into()), 2);
        assert_eq!(code(io::Error::from(io::ErrorKind::StorageFull).into()), 1);
        assert_eq!(code(RunError::Locked { path: path() }.into()), 1);
        assert_eq!(code(TextError::Json { place: "a".into(), message: "b".into() }.into()), 1);
    }

    #[test]
    fn messages_cannot_draw_on_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}"), "a b\\u{1b}[31m\\u{202e}");
    }
}
