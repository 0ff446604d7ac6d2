//! What can go wrong with thoughts.

use crate::{intervene::generate::GenerateError, model::ModelError, results::statistics::ScoreError};

/// Thoughts that cannot be had, replaced or measured.
#[derive(Debug, thiserror::Error)]
pub enum ThinkError {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A lens or the readout failed.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// The answer cannot be generated.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Numbers could not be counted.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A layer the network does not have.
    #[error("no layer {layer}; this model's layers are 0 to {last}")]
    #[allow(missing_docs)]
    NoLayer { layer: usize, last: usize },
    /// Prompt, thoughts and answer are longer than the context.
    #[error(
        "{prompt} tokens, {thoughts} thoughts and {new} new tokens do not fit the model's context of {context}"
    )]
    #[allow(missing_docs)]
    NoRoom { prompt: usize, thoughts: usize, new: usize, context: usize },
    /// A setting of the feedback that makes no sense.
    #[error("{what} is {value}, must be {must}")]
    #[allow(missing_docs)]
    Setting { what: &'static str, value: f64, must: &'static str },
    /// NaN, infinite, or a state without length that is to be rescaled.
    #[error("thought {step} of prompt {prompt} of its batch is not finite")]
    #[allow(missing_docs)]
    NotFinite { step: usize, prompt: usize },
    /// A control that takes from other prompts, where there are none.
    #[error(
        "replacement `{replacement}` takes from other prompts and needs at least two, there is {prompts}"
    )]
    #[allow(missing_docs)]
    NeedsOthers { replacement: &'static str, prompts: usize },
}

impl From<tch::TchError> for ThinkError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}
