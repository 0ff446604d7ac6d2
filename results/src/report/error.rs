//! What can go wrong with a report.

use std::path::PathBuf;

use crate::{figure::FigureError, run::RunError};

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds no run.
    #[error("{} is not a run of layerscope: it has no manifest.json", path.display())]
    #[allow(missing_docs)]
    NotARun { path: PathBuf },
    /// The run has not come to its end.
    #[error("{} is not complete; repeat its command ({kind}) first", path.display())]
    #[allow(missing_docs)]
    Incomplete { path: PathBuf, kind: String },
    /// The run has no numbers that a figure is made for.
    #[error("{} has nothing to draw: it is the folder of `{kind}`; give those of lens eval, lens transfer, lens concepts, lens causal, future, probe, steer, schedule, trace, view --out or verify --out", path.display())]
    #[allow(missing_docs)]
    Nothing { path: PathBuf, kind: String },
    /// The same folder twice.
    #[error("{} is given twice", path.display())]
    #[allow(missing_docs)]
    Twice { path: PathBuf },
    /// A run cannot be read.
    #[error(transparent)]
    Input(RunError),
    /// The folder to write is a run, which not even force may take the place of.
    #[error("{} is the folder of `{kind}`, not of a report; choose another folder", path.display())]
    #[allow(missing_docs)]
    IsRun { path: PathBuf, kind: String },
    /// The folder to write holds something else, or another report.
    #[error(transparent)]
    Folder(RunError),
    /// A file cannot be written.
    #[error(transparent)]
    Output(RunError),
    /// A figure cannot be drawn.
    #[error("figure {name}: {source}")]
    #[allow(missing_docs)]
    Figure { name: String, source: FigureError },
}

impl ReportError {
    /// Whether the command was wrong, rather than the machine or a file that was damaged.
    pub fn is_usage(&self) -> bool {
        let damaged = |error: &RunError| {
            matches!(
                error,
                RunError::Damaged { .. } | RunError::BadManifest { .. } | RunError::BadMetrics { .. }
            )
        };
        match self {
            Self::Input(error) | Self::Folder(error) => !damaged(error),
            _ => !matches!(self, Self::Output(_) | Self::Figure { .. }),
        }
    }
}
