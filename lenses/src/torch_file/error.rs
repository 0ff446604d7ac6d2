/// Why a `torch.save` file was refused, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// The format before torch 1.6, a bare pickle.
    #[error(
        "this is torch's format from before 1.6, without a zip around it; load and save it again with a newer torch"
    )]
    Legacy,
    /// Not a zip file, or a damaged one.
    #[error("not a whole torch.save file: {0}")]
    Zip(String),
    /// An entry of the zip file is not as torch writes it.
    #[error("entry {entry:?} {reason}")]
    Entry {
        /// Its name in the archive.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// The pickle names something that is no part of a dictionary of tensors.
    #[error("global `{0}` is not allowed in a file of tensors")]
    Global(String),
    /// The pickle is damaged or does what `torch.save` never does.
    #[error("pickle, byte {at}: {reason}")]
    Pickle {
        /// Where, from 0.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is not what it must be.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// Its key.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// libtorch refused an operation; only the first line of its message is kept.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<tch::TchError> for TorchFileError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

impl From<zip::result::ZipError> for TorchFileError {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Zip(error.to_string())
    }
}
