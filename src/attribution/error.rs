//! What can go wrong with an attribution.

use tch::Kind;

use crate::{hook::TapError, model::ModelError, results::statistics::ScoreError, watch::Stopped};

/// A logit could not be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The readout refused a tensor.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// A mean cannot be taken.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A model whose logits are no sum over its blocks.
    #[error("{family}: {reason}")]
    Family {
        /// The model's family.
        family: &'static str,
        /// Why its logits cannot be taken apart.
        reason: String,
    },
    /// Numbers too coarse for the sum to be held against the logit.
    #[error(
        "the sum of all components is held against the logit, which {0:?} numbers are too coarse for; compute in f32"
    )]
    Kind(Kind),
    /// Rows and targets that do not fit each other or the text.
    #[error("{0}")]
    Rows(String),
    /// The components do not sum to the logit.
    #[error("the components sum to {sum}, the logit is {logit}: {:.1e} apart, where {allowed:.1e} is rounding", (sum - logit).abs())]
    #[allow(missing_docs)]
    Sum { row: usize, sum: f64, logit: f64, allowed: f64 },
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for AttributionError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

/// What a tap of an attribution says.
pub(super) fn in_tap(error: &AttributionError) -> TapError {
    TapError::Other(error.to_string())
}
