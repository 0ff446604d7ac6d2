//! What can go wrong with patching.

use crate::{intervene::future::FutureError, model::ModelError, sources::text::TextError, watch::Stopped};

/// An activation could not be patched.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A transplant failed.
    #[error(transparent)]
    Future(#[from] FutureError),
    /// The readout or a mapping failed.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// A prompt could not be encoded.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What is looked for in a prompt is not there.
    #[error("{part:?} does not occur in {text:?}")]
    #[allow(missing_docs)]
    NotThere { part: String, text: String },
    /// A prompt without tokens.
    #[error("{text:?} has no tokens")]
    #[allow(missing_docs)]
    Empty { text: String },
    /// Positions of two prompts can be compared only if there are as many of them.
    #[error(
        "the clean prompt has {clean} tokens and the corrupted one {corrupted}; positions are patched one for one, so give prompts of \
         equal length"
    )]
    #[allow(missing_docs)]
    Lengths { clean: i64, corrupted: i64 },
    /// A position or layer that is not there.
    #[error("no {what} {got}; there are 0 to {last}")]
    #[allow(missing_docs)]
    Outside { what: &'static str, got: usize, last: usize },
    /// Nothing was asked for.
    #[error("no hook or no layer to patch")]
    Nothing,
    /// The user stopped it.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for PatchError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}
