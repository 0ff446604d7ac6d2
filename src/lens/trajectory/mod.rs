//! The prediction trajectory of one prompt: what every lens says at every layer and position.
//!
//! [`PromptStates`] runs the prompt once and reads it through lenses; [`Trace`] is what was read, without the model: it
//! is written as `trajectory.parquet`, shown by [`crate::results::page`], and given to others by [`logitlenskit`].

mod states;
mod traced;

pub use layerscope_results::trace::{
    KitError, LensTrace, PromptToken, TRAJECTORY, Trace, TraceCell, logitlenskit, read_traces, write_traces,
};
pub use states::{PromptStates, Tracked};

use layerscope_lenses::{LayerIndex, Lens, stats::Readings};

use crate::model::{Model, ModelError};

/// What one lens says about a prompt.
#[derive(Debug)]
pub struct Trajectory {
    /// The lens's name.
    pub lens: String,
    /// How many tokens ahead it predicts; 1 is the next token.
    pub horizon: usize,
    /// The layers read, ascending; with horizon 1 the last may be `L`, the model's own output.
    pub layers: Vec<LayerIndex>,
    /// Readings per layer, one entry per position. At horizon `k` the last `k - 1` positions have nothing of the model
    /// to be compared with: KL and the numbers `of_final` mean nothing there.
    pub readings: Vec<Readings>,
}

impl Trajectory {
    /// Per position, the prediction depth: the first layer read from which on the lens's first token is the model's
    /// (Baldock et al. 2021).
    pub fn depth(&self) -> Vec<LayerIndex> {
        let first = |layer: usize, position: usize| self.readings[layer].top_ids[position].first();
        let last = self.layers.len().saturating_sub(1);
        let depth = |position: usize| {
            let other = (0..last).rfind(|layer| first(*layer, position) != first(last, position));
            self.layers[other.map_or(0, |layer| layer + 1)]
        };
        (0..self.readings.last().map_or(0, |r| r.top_ids.len())).map(depth).collect()
    }
}

/// Runs `ids` through the model once and reads `layers` through each lens, keeping the `k` likeliest tokens.
///
/// # Errors
/// When the prompt is empty or longer than the context, or a lens does not fit the model.
pub fn trajectories(
    model: &Model,
    lenses: &[Box<dyn Lens>],
    ids: &[u32],
    layers: &[LayerIndex],
    k: usize,
) -> Result<Vec<Trajectory>, ModelError> {
    let states = PromptStates::run(model, ids, layers)?;
    lenses.iter().map(|lens| states.read(lens.as_ref(), layers, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_the_layer_from_which_the_first_token_stays() {
        let layer = |tops: [i64; 3]| Readings {
            top_ids: tops.iter().map(|top| vec![*top]).collect(),
            ..Readings::default()
        };
        // Three positions: known from the start; found, lost and found again; never before the end.
        let trajectory = Trajectory {
            lens: "logit".into(),
            horizon: 1,
            layers: [0, 2, 4, 6].map(LayerIndex).to_vec(),
            readings: vec![layer([1, 5, 3]), layer([1, 9, 3]), layer([1, 5, 3]), layer([1, 5, 4])],
        };
        assert_eq!(trajectory.depth(), [0, 4, 6].map(LayerIndex));
    }
}
