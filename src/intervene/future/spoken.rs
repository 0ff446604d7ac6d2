//! What the states of a prompt go on to say, as lenses: one per token ahead.

use std::collections::BTreeMap;

use layerscope_lenses::{Error, Horizon, LayerIndex, Lens};
use tch::Tensor;

use super::{FutureError, Prompt, free};
use crate::model::Model;

/// A token ahead, for the states of one prompt only: what the network was led to, layer by layer, before the final
/// norm.
#[derive(Debug)]
pub struct Spoken {
    name: String,
    horizon: usize,
    /// `[seq, d_model]` by layer.
    states: BTreeMap<usize, Tensor>,
}

impl Spoken {
    /// One per token, `horizons` of them: the first is the logit lens of the state, the others are what the network
    /// goes on with when the state stands in the prompt of its layer, free-running, after a first token of its own, as
    /// in [`grid`](super::grid). `states [seq, d_model]` and `prompts` are by layer.
    ///
    /// # Errors
    /// As [`free`].
    pub fn of(
        model: &Model,
        vocab: usize,
        name: &str,
        states: BTreeMap<usize, Tensor>,
        prompts: &BTreeMap<usize, Prompt>,
        horizons: usize,
        batch_tokens: usize,
    ) -> Result<Vec<Self>, FutureError> {
        let new = |horizon: usize| Self { name: name.to_owned(), horizon, states: BTreeMap::new() };
        let mut all: Vec<Self> = (1..=horizons).map(new).collect();
        for (layer, states) in states {
            let Some(prompt) = prompts.get(&layer) else { continue };
            let said = free(model, vocab, prompt, layer, &states, horizons, batch_tokens)?;
            let later = said.into_iter().skip(1).map(|said| said.state);
            for (lens, state) in all.iter_mut().zip(std::iter::once(states).chain(later)) {
                lens.states.insert(layer, state);
            }
        }
        Ok(all)
    }
}

impl Lens for Spoken {
    fn name(&self) -> &str {
        &self.name
    }

    fn transform(&self, layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        match self.states.get(&layer.0) {
            Some(state) if state.size() == resid.size() => Ok(state.shallow_clone()),
            found => Err(Error::Shape {
                what: "the states of the prompt that was read",
                expected: found
                    .map_or_else(|| format!("none at layer {layer}"), |s| format!("{:?}", s.size())),
                got: resid.size(),
            }),
        }
    }

    fn reads(&self, layer: LayerIndex) -> bool {
        self.states.contains_key(&layer.0)
    }

    fn horizon(&self) -> Horizon {
        Horizon(self.horizon)
    }
}
