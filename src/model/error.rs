use std::{io, path::PathBuf};

use crate::hook::TapError;

/// A model that cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the part below said; it is the cause of this error.
        source: io::Error,
    },
    /// config.json is not JSON, or a value has the wrong type.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A family this program does not know.
    #[error("model family `{family}` is not supported; supported: {supported}")]
    UnknownFamily {
        /// `model_type` in config.json.
        family: String,
        /// The families there are.
        supported: String,
    },
    /// An option of a known family that is not supported.
    #[error("{family}: {option} is not supported{hint}")]
    Unsupported {
        /// The family.
        family: String,
        /// The option and its value.
        option: String,
        /// `; supported: …`, or nothing.
        hint: String,
    },
    /// The folder has no weights this program reads.
    #[error("{}: {reason}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// A weights file that is not whole, or not what it says it is.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor the family needs is not there.
    #[error("tensor `{name}` is missing from {}", path.display())]
    MissingTensor {
        /// The tensor's full name.
        name: String,
        /// The file or folder that was searched.
        path: PathBuf,
    },
    /// A tensor does not have the shape that config.json implies.
    #[error("tensor `{name}` in {}: expected shape {expected:?}, got {got:?}", path.display())]
    TensorShape {
        /// The tensor's full name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What config.json implies.
        expected: Vec<i64>,
        /// What the file holds.
        got: Vec<i64>,
    },
    /// A tensor of a type that is not a float this program reads.
    #[error("tensor `{name}` in {}: type {dtype} is not supported; supported: F32, F16, BF16, F64", path.display())]
    TensorType {
        /// The tensor's full name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its type.
        dtype: String,
    },
    /// A weight that is NaN or infinite.
    #[error("tensor `{name}` in {} holds a NaN or infinite value", path.display())]
    NotFinite {
        /// The tensor's full name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Token ids that the model cannot take.
    #[error("{0}")]
    Input(String),
    /// A tap could not do what it is there for.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Libtorch refused an operation; only the first line of its message is kept.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The readout refused a tensor.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
}

impl From<tch::TchError> for ModelError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
