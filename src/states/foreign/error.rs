//! Why activations of somebody else were refused.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    hook::HookPoint, lenses::torch_file::TorchFileError, model::ModelError, states::store::StoreError,
    watch::Stopped,
};

/// Activations that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A file cannot be read.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the part below said; it is the cause of this error.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A torch file that cannot be read without running it.
    #[error("{}", path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// What the part below said; it is the cause of this error.
        source: TorchFileError,
    },
    /// A tensor of another shape than the model's.
    #[error("{}: {name} has shape {got:?}, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<i64>,
        /// The shape of this model's.
        expected: String,
    },
    /// Two tensors for one hook.
    #[error("{}: {first} and {second} are both {point}", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// One.
        first: String,
        /// The other.
        second: String,
        /// What both are.
        point: HookPoint,
    },
    /// The last hidden state of transformers, asked for as a layer.
    #[error(
        "layer {0} is not in transformers' hidden_states: the last one is normed already, and is no layer"
    )]
    Normed(usize),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
    /// A row that cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// libtorch refused an operation.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
}

impl ForeignError {
    #[allow(clippy::needless_pass_by_value)] // a message made on the spot
    pub(super) fn file(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.into(), source }
    }
}
