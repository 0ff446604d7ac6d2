//! Causal checks of lenses: does a lens go by what the model goes by? (Belrose et al. 2023, 2303.08112, section 4)
//!
//! ```text
//! r(h, v) = h + v vᵀ(t - h)                        a direction removed: t is the mean state, 0, or another token's state
//! energy(v) = E KL(lens(h) ‖ lens(r(h, v)))        what the lens goes by
//! effect(v) = E KL(model ‖ model with r at that layer, at every position)        what the model goes by
//! ```
//!
//! *Causal basis extraction* ([`extract`]) finds, one after the other, the orthonormal directions of largest energy. A
//! lens is causally faithful where the rank of a direction's energy is that of its effect. *Stimulus-response
//! alignment* ([`similarity`]) puts other tokens' states in place of the principal subspace, and asks whether the
//! lens's distribution (the stimulus) moves the way the model's (the response) does.
//!
//! Mean states, bases and other tokens' states come from one half of the documents ([`Ground`]), all results from the
//! other ([`Measurement`]). The model runs from the changed layer on ([`replay`]).

mod align;
mod energy;
mod extract;
mod ground;
mod layer;
mod measure;
mod remove;
mod replay;
mod rows;
mod sets;

pub use align::similarity;
pub use energy::Energy;
pub use extract::{Basis, EVALUATIONS, TOLERANCE, extract};
pub use ground::{Ground, Sample, grounds};
pub use layer::Plan;
use layerscope_lenses::LayerIndex;
pub use layerscope_results::run::basis_name;
pub use measure::Measurement;
pub use remove::{Removal, remove};
pub use replay::{replay, replay_under};
pub use sets::{Set, principal, random};

use crate::{model::ModelError, results::statistics::ScoreError, watch::Stopped};

/// A check that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CausalError {
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A lens cannot read.
    #[error("{lens}, layer {layer}: {source}")]
    Lens {
        /// The lens that was read with, by its name.
        lens: String,
        /// The layer of the states.
        layer: LayerIndex,
        /// What the part below said; it is the cause of this error.
        source: layerscope_lenses::Error,
    },
    /// A tensor operation, or the readout of the model's own prediction.
    #[error("causal checks: {0}")]
    Readout(#[from] layerscope_lenses::Error),
    /// More directions than the stream has.
    #[error("{k} directions of a stream of {d}")]
    Directions {
        /// Asked for.
        k: usize,
        /// There are.
        d: usize,
    },
    /// Nothing to put in place of a state.
    #[error("{0} positions to find directions on; at least 2 are needed")]
    Positions(usize),
    /// No direction changes what the lens says.
    #[error("{lens}, layer {layer}: no direction changes what the lens says (direction {place})")]
    Flat {
        /// The lens that was read with, by its name.
        lens: String,
        /// The layer of the states.
        layer: LayerIndex,
        /// Of which direction, counted from 1.
        place: usize,
    },
    /// A score is not finite.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for CausalError {
    fn from(error: tch::TchError) -> Self {
        Self::Readout(error.into())
    }
}

#[cfg(test)]
mod tests;
