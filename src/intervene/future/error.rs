//! What can go wrong with transplants.

use crate::{model::ModelError, results::statistics::ScoreError, sources::text::TextError, watch::Stopped};

/// A transplant, a prompt's training or their evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum FutureError {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A lens or the readout failed.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// The text could not be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Numbers could not be counted.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A prompt and what is fed after it are longer than the context.
    #[error("a prompt of {prompt} tokens and {fed} more do not fit a context of {context}")]
    #[allow(missing_docs)]
    NoRoom { prompt: usize, fed: usize, context: usize },
    /// A prompt without tokens has no place for a state.
    #[error("prompt {prompt:?} has no tokens")]
    #[allow(missing_docs)]
    EmptyPrompt { prompt: String },
    /// A layer the network does not have.
    #[error("no layer {layer}; this model's layers are 0 to {last}")]
    #[allow(missing_docs)]
    NoLayer { layer: usize, last: usize },
    /// Nothing to draw contexts from.
    #[error("no contexts: every text is shorter than {least} tokens")]
    #[allow(missing_docs)]
    NoContexts { least: usize },
    /// A derangement needs contexts of several documents.
    #[error(
        "{contexts} contexts, {largest} of them of one document: none can be given the state of another document"
    )]
    #[allow(missing_docs)]
    NoDerangement { contexts: usize, largest: usize },
    /// A state that is NaN or infinite.
    #[error("{at} is not finite in a context of document {document}")]
    #[allow(missing_docs)]
    State { at: String, document: u64 },
    /// Numbers that are NaN or infinite.
    #[error("{what} of layer {layer}, horizon {horizon} is not finite")]
    #[allow(missing_docs)]
    NotFinite { what: &'static str, layer: usize, horizon: usize },
    /// The user stopped it.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for FutureError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}
