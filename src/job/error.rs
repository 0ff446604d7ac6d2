//! Why a job did not end as it should.

use std::{error::Error, fmt, io};

use super::Setting;
use crate::{
    attention::AttentionError,
    attribution::AttributionError,
    hook::HookError,
    intervene::{
        edits::EditError, future::FutureError, generate::GenerateError, patch::PatchError,
        schedule::ScheduleError, steer::SteerError, think::ThinkError,
    },
    lens::{
        artifact::ArtifactError, causal::CausalError, evaluate::EvalError, fit::FitError,
        jacobian::JacobianError,
    },
    model::{ModelError, verify::VerifyError},
    probe::{ProbeError, saved::SavedError},
    results::{
        figure::FigureError, inert, report::ReportError, run::RunError, statistics::ScoreError,
        trace::KitError,
    },
    sources::{
        chat::ChatError, device::DeviceError, hub::HubError, labelled::LabelledError, text::TextError,
    },
    states::{
        export::ExportError,
        foreign::ForeignError,
        store::{PositionsError, StoreError},
    },
    watch::Stopped,
};

/// An error of any part of the library.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a job did not end as it should, by what its user can do about it. The error behind it is its
/// [source](Error::source), of the type of the part that found it. Its `Debug` is its message, so that a `main` which
/// returns it says what a person can read.
pub enum JobError {
    /// The job as it stands cannot be meant: a setting, a file that is not there, a folder that holds other work.
    /// Nothing was done.
    Usage(BoxError),
    /// Something went wrong on the way.
    Failed(BoxError),
    /// What was checked does not hold: parity, another unembedding, leakage that shall be refused.
    Check(String),
    /// Stopped on the way; the same job goes on from there.
    Interrupted(BoxError),
}

/// What a [`JobError`] comes to, for whoever only needs to know that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// [`JobError::Usage`].
    Usage,
    /// [`JobError::Failed`].
    Failed,
    /// [`JobError::Check`].
    Check,
    /// [`JobError::Interrupted`].
    Interrupted,
}

impl Ending {
    /// The exit code of a program that ends so.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Check => 3,
            Self::Interrupted => 4,
        }
    }
}

impl JobError {
    /// Settings or inputs that cannot be meant.
    pub fn usage(error: impl Into<BoxError>) -> Self {
        Self::Usage(error.into())
    }

    /// A setting whose value cannot be meant.
    pub fn setting(name: &'static str, problem: impl fmt::Display) -> Self {
        Self::usage(format!("{}: {problem}", Setting(name)))
    }

    /// Something that went wrong on the way.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into())
    }

    /// A check that did not pass.
    pub fn check(message: impl fmt::Display) -> Self {
        Self::Check(message.to_string())
    }

    /// Stopped on the way.
    pub fn interrupted(error: impl Into<BoxError>) -> Self {
        Self::Interrupted(error.into())
    }

    /// What it comes to.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Usage(_) => Ending::Usage,
            Self::Failed(_) => Ending::Failed,
            Self::Check(_) => Ending::Check,
            Self::Interrupted(_) => Ending::Interrupted,
        }
    }

    /// The same, of a place in a file or of a thing with a name.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        let placed = |error: BoxError| -> BoxError { Box::new(At { place: place.to_owned(), error }) };
        match self {
            Self::Usage(error) => Self::Usage(placed(error)),
            Self::Failed(error) => Self::Failed(placed(error)),
            Self::Check(message) => Self::Check(format!("{place}: {message}")),
            Self::Interrupted(error) => Self::Interrupted(placed(error)),
        }
    }
}

/// An error and where it is.
#[derive(Debug)]
struct At {
    place: String,
    error: BoxError,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Error for At {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}

/// The error and its causes on one line; a cause that its effect has quoted already is left out.
impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Usage(error) | Self::Failed(error) | Self::Interrupted(error) => error,
            Self::Check(message) => return f.write_str(message),
        };
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        f.write_str(&line)
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for JobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Usage(error) | Self::Failed(error) | Self::Interrupted(error) => Some(&**error),
            Self::Check(_) => None,
        }
    }
}

/// Errors of the parts become what [`ending_of`] says.
macro_rules! from_parts {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for JobError {
            fn from(error: $error) -> Self {
                match ending_of(&error) {
                    Ending::Usage => Self::usage(error),
                    Ending::Interrupted => Self::interrupted(error),
                    Ending::Failed | Ending::Check => Self::failed(error),
                }
            }
        }
    )*};
}

from_parts!(
    ArtifactError,
    AttentionError,
    AttributionError,
    CausalError,
    DeviceError,
    EditError,
    EvalError,
    ExportError,
    FigureError,
    FitError,
    ForeignError,
    FutureError,
    GenerateError,
    HookError,
    HubError,
    JacobianError,
    KitError,
    LabelledError,
    ModelError,
    PatchError,
    PositionsError,
    ProbeError,
    ReportError,
    RunError,
    SavedError,
    ScheduleError,
    ScoreError,
    SteerError,
    Stopped,
    StoreError,
    TextError,
    ThinkError,
    VerifyError,
    io::Error,
    layerscope_lenses::Error,
    layerscope_probes::Error,
    parquet::errors::ParquetError,
    serde_json::Error,
    tch::TchError,
);

/// What an error of a part comes to: [`Ending::Interrupted`] where somebody asked to stop, [`Ending::Usage`] where its
/// cause is in the job's settings, else [`Ending::Failed`].
pub fn ending_of(error: &(dyn Error + 'static)) -> Ending {
    if causes(error).any(<dyn Error>::is::<Stopped>) {
        Ending::Interrupted
    } else if causes(error).any(is_configuration) {
        Ending::Usage
    } else {
        Ending::Failed
    }
}

/// Messages quote files that somebody else wrote: control and bidirectional characters must not reach a terminal.
pub fn one_line(message: &str) -> String {
    inert::spelled(&message.replace('\n', " "), &[])
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// Whether the cause of a failure is in the settings, not in the work or its data.
fn is_configuration(cause: &(dyn Error + 'static)) -> bool {
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
                | TextError::NoTemplate { .. }
                | TextError::Chat {
                    source: ChatError::NoTemplate { .. } | ChatError::NoSuchTemplate { .. },
                    ..
                }
                | TextError::NoBos { .. }
                | TextError::NoEos
                | TextError::SeqLen { .. }
                | TextError::NoRoom { .. }
                | TextError::NoTokensAsked
        );
    }
    if matches!(cause.downcast_ref(), Some(PatchError::Outside { .. }))
        || matches!(cause.downcast_ref(), Some(FutureError::NoDerangement { .. }))
    {
        return true;
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
        let ending = |error: JobError| error.ending();
        assert_eq!(ending(TextError::NoSuchFile(path()).into()), Ending::Usage);
        assert_eq!(ending(RunError::io("read", &path(), missing()).into()), Ending::Usage);
        assert_eq!(ending(ArtifactError::Io { path: path(), source: missing() }.into()), Ending::Usage);
        assert_eq!(ending(HubError::NoCache.into()), Ending::Usage);
        assert_eq!(ending(missing().into()), Ending::Usage);
        assert_eq!(ending(io::Error::from(io::ErrorKind::StorageFull).into()), Ending::Failed);
        assert_eq!(ending(RunError::Locked { path: path() }.into()), Ending::Failed);
        let json = TextError::Json { place: "a".into(), message: "b".into() };
        assert_eq!(ending(json.into()), Ending::Failed);
    }

    /// Whatever part was asked to stop: nothing of it is a failure.
    #[test]
    fn a_stop_is_no_failure() {
        for error in [
            FitError::from(Stopped).into(),
            ProbeError::from(Stopped).into(),
            EvalError::from(Stopped).into(),
        ] {
            let error: JobError = error;
            assert_eq!(error.ending(), Ending::Interrupted);
            assert!(error.to_string().starts_with("interrupted; repeat the command to "), "{error}");
        }
    }

    #[test]
    fn messages_cannot_draw_on_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}"), "a b\\u{1b}[31m\\u{202e}");
    }

    #[test]
    fn a_place_stands_before_what_is_wrong_there() {
        let error = JobError::setting("layers", "no layer 9").at("jobs.jsonl:3");
        assert_eq!(error.to_string(), "jobs.jsonl:3: layers: no layer 9");
        assert_eq!(JobError::check("differs").at("x").to_string(), "x: differs");
    }
}
