//! Steering: a direction added to the residual stream, and what becomes of the prediction.
//!
//! ```text
//! direction v, |v| = 1    (a probe's weights, a vector from a file, what pairs of texts differ in, what makes the model say
//!                          a sentence, or a random one as the control)
//! h_l[every position] += strength · (mean length of the stream at layer l) · v
//! -> KL(model ‖ steered), agreement, cross-entropy, and the logit difference of two tokens, on neutral text
//! ```
//!
//! Random directions of the same length are the least that a result has to beat (*The Rogue Scalpel*, 2509.22067): a
//! large enough push changes any model. Every setting is ranked among twenty of them. The response is the change of the
//! logit difference; whether it grows in proportion to the strength is said by the slope and Pearson's r of a line
//! through the origin and the strengths (*Words in Motion*,
//! 2406.11624), with intervals over documents.

mod control;
mod direction;
mod measure;
mod pairs;
mod response;
mod sentence;

pub use crate::results::run::TOGETHER;
pub use direction::Direction;
use layerscope_lenses::Error;
pub use measure::{Contrast, Sweep};
pub use pairs::{Differences, Pairs};
pub use sentence::{Learnt, Recipe, Sentence, over_sentences};

use crate::{
    intervene::generate::GenerateError, model::ModelError, results::statistics::ScoreError,
    sources::text::TextError, watch::Stopped,
};

/// A steering that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// A vector is not one of this model, or has no length.
    #[error("direction {name}, layer {layer}: {reason}")]
    Direction {
        /// The direction, by its name.
        name: String,
        /// The layer of the states.
        layer: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Pairs of texts that give no direction.
    #[error("{place}: {reason}")]
    Pairs {
        /// The row or the file.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sentence that gives no direction.
    #[error("{name}: {reason}")]
    Sentence {
        /// What it is called.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
    /// A text cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model cannot go on from a token.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The prediction cannot be read.
    #[error("the prediction: {0}")]
    Readout(#[from] Error),
    /// A score is not finite.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

impl From<tch::TchError> for SteerError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

/// One direction added at one layer with one strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Place of the direction.
    pub direction: usize,
    /// Layer whose stream is changed.
    pub layer: usize,
    /// In mean lengths of that stream.
    pub strength: f64,
}

#[cfg(test)]
mod tests;
