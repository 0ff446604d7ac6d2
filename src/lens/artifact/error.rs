//! What can go wrong with a lens folder.

use std::io;
use std::path::{Path, PathBuf};

use layerscope_lenses::torch_file::TorchFileError;

use super::LensKind;
use crate::results::run::RunError;

/// A lens folder could not be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] RunError),
    /// `config.json` is no lens's.
    #[error("cannot use {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in a line.
        reason: String,
    },
    /// `params.pt` is not what the package writes.
    #[error("cannot use {}: {source}", path.display())]
    ParamsPt {
        /// The file.
        path: PathBuf,
        /// What the part below said; it is the cause of this error.
        source: TorchFileError,
    },
    /// A tensor is missing, unknown, of another type or shape, or not finite.
    #[error("{}: tensor {name:?} {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The lens was made for another unembedding.
    #[error(
        "the lens was made for model {model:?} with unembedding {}, this model has {}; \
         --other-unembedding uses it all the same",
        short(expected),
        short(got)
    )]
    OtherUnembedding {
        /// The model the lens was made for.
        model: String,
        /// SHA-256 of its unembedding.
        expected: String,
        /// SHA-256 of the unembedding at hand.
        got: String,
    },
    /// The lens was made for a model of another shape.
    #[error("the lens was made for {expected} of {what}, this model has {got}")]
    OtherShape {
        /// `d_model` or `layers`.
        what: &'static str,
        /// The lens's.
        expected: usize,
        /// The model's.
        got: usize,
    },
    /// A lens that does not map states to states of the last layer.
    #[error("a {kind} lens is no map from states to final states; `layerscope future` evaluates it")]
    NotAMap {
        /// `future-vocab` or `future-prompt`.
        kind: LensKind,
    },
    /// A file of somebody else's Jacobian lens.
    #[error("{path}: {reason}", path = path.display())]
    JacobianPt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A lens could not be made of the tensors.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
}

impl ArtifactError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn tensor(path: &Path, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), name: name.into(), reason: reason.into() }
    }
}

/// Enough of a hash to tell two apart.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
