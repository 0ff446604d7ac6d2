//! The prediction trajectory of one prompt: what every lens says at every layer and position.

use layerscope_lenses::{
    LayerIndex, Lens,
    stats::{Readings, readings},
};
use tch::Tensor;

use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::{Model, ModelError},
};

/// Largest number of logits held at once; more rows are read in parts.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// What one lens says about a prompt.
#[derive(Debug)]
pub struct Trajectory {
    /// The lens's name.
    pub lens: String,
    /// The layers read, ascending; the last is `L`, the model's own output.
    pub layers: Vec<LayerIndex>,
    /// Readings per layer, one entry per position.
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
    let _no_grad = tch::no_grad_guard();
    let point = |layer: LayerIndex| HookPoint::Block(layer.0, BlockHook::ResidPre);
    let last = LayerIndex(model.spec().n_layers);
    let wanted: Selection = layers.iter().copied().chain([last]).map(point).collect();
    let mut capture = Capture::new(wanted);
    let tokens: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    model.forward(&Tensor::from_slice(&tokens).unsqueeze(0), &mut capture)?;
    let resid = |layer| {
        let kept = capture.get(point(layer)).map(|t| t.squeeze_dim(0)); // [seq, d_model]
        kept.ok_or_else(|| ModelError::Input(format!("layer {layer} was not computed")))
    };

    let next: Vec<i64> = tokens.iter().skip(1).copied().chain([-1]).collect();
    let final_state = resid(last)?;
    let read = |lens: &dyn Lens, layer: LayerIndex| {
        let state =
            if layer == last { final_state.shallow_clone() } else { lens.transform(layer, &resid(layer)?)? };
        read_rows(model, &state, &final_state, &next, k)
    };
    let one = |lens: &dyn Lens| {
        let readings = layers.iter().map(|&layer| read(lens, layer)).collect::<Result<_, _>>()?;
        Ok(Trajectory { lens: lens.name().to_owned(), layers: layers.to_vec(), readings })
    };
    lenses.iter().map(|lens| one(lens.as_ref())).collect()
}

/// Reads `state [seq, d_model]` against the final state in parts of bounded size.
fn read_rows(
    model: &Model,
    state: &Tensor,
    final_state: &Tensor,
    next: &[i64],
    k: usize,
) -> Result<Readings, ModelError> {
    let unembed = model.unembed();
    let rows = (LOGITS_AT_ONCE / unembed.vocab()).max(1);
    let mut parts = Vec::new();
    for (i, next) in next.chunks(rows).enumerate() {
        let part = |t: &Tensor| t.narrow(0, (i * rows) as i64, next.len() as i64);
        let (lens, own) = (unembed.logits(&part(state))?, unembed.logits(&part(final_state))?);
        parts.push(readings(&lens, &own, next, k)?);
    }
    Ok(Readings::concat(parts))
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
            layers: [0, 2, 4, 6].map(LayerIndex).to_vec(),
            readings: vec![layer([1, 5, 3]), layer([1, 9, 3]), layer([1, 5, 3]), layer([1, 5, 4])],
        };
        assert_eq!(trajectory.depth(), [0, 4, 6].map(LayerIndex));
    }
}
