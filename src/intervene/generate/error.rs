use std::path::PathBuf;

use crate::model::ModelError;

/// Text that cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Prompts of different lengths in one batch.
    #[error("prompt {prompt} has {tokens} tokens, the first {first}; a batch has prompts of one length")]
    Lengths {
        /// Tokens of the first prompt.
        first: usize,
        /// The other prompt's number.
        prompt: usize,
        /// Its tokens.
        tokens: usize,
    },
    /// More tokens than the model can read.
    #[error("{tokens} tokens and {new} new ones do not fit the model's context of {context}")]
    Context {
        /// Of the prompt.
        tokens: usize,
        /// New ones asked for.
        new: usize,
        /// The context.
        context: usize,
    },
    /// NaN or infinite logits.
    #[error("the logits of prompt {prompt} are not finite at new token {step}")]
    NotFinite {
        /// The prompt's number.
        prompt: usize,
        /// 0 is the first new token.
        step: usize,
    },
    /// A setting of sampling that makes no sense.
    #[error("{what} is {value}, must be {must}")]
    Sampling {
        /// Its name.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        must: &'static str,
    },
    /// The tap ended the pass, so that there are no logits.
    #[error("the tap ends the pass before the logits")]
    Ended,
    /// A file that names end tokens cannot be used.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Numbers cannot be taken.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// Scores cannot be taken.
    #[error(transparent)]
    Score(#[from] crate::results::statistics::ScoreError),
}

impl From<tch::TchError> for GenerateError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}
