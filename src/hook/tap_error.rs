//! Why a tap could not do what it is there for.

use tch::{TchError, Tensor};

use super::HookPoint;

/// A tap that could not do what it is there for; the forward pass ends with it.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A value cannot be changed as it was asked for.
    #[error("the edit at {point}: {reason}")]
    Edit {
        /// The hook point at which the tap was asked.
        point: HookPoint,
        /// Why, in a line.
        reason: String,
    },
    /// What a tap returned is of another shape, type or device: it could broadcast without a word.
    #[error("the edit at {point} must return {expected}, got {found}")]
    Misfit {
        /// The hook point at which the tap was asked.
        point: HookPoint,
        /// What the network had there.
        expected: String,
        /// What came back.
        found: String,
    },
    /// Anything else that a tap has to say.
    #[error("{0}")]
    Other(String),
}

impl TapError {
    /// An edit that libtorch refused.
    pub fn edit(point: HookPoint, error: &TchError) -> Self {
        Self::Edit { point, reason: first_line(error) }
    }

    /// What was returned in place of `own`.
    pub(crate) fn misfit(point: HookPoint, own: &Tensor, found: &Tensor) -> Self {
        let what = |t: &Tensor| format!("{:?} {:?} on {:?}", t.kind(), t.size(), t.device());
        Self::Misfit { point, expected: what(own), found: what(found) }
    }
}

/// libtorch's messages go on with a stack trace.
pub(crate) fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
