//! What the network has at the end of every context, and how it goes on from there.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::FutureError;
use crate::{
    hook::{BlockHook, HookPoint, Tap, TapError},
    model::{Model, ModelError},
    sources::text::{Window, each_batch},
    states::not_finite,
    watch::Underway,
};

/// Contexts as the network sees them, one row each, in their order.
#[derive(Debug)]
pub struct Sources {
    /// Every row's document.
    pub docs: Vec<u64>,
    /// The last two tokens of the context, the last one second (what bigrams go by).
    pub ends: Vec<[u32; 2]>,
    /// By layer, the stream entering that block at T: `[rows, d_model]`.
    pub states: BTreeMap<usize, Tensor>,
    /// By horizon from 1, the stream leaving the last block at `T + k - 1`: `[rows, d_model]`.
    pub last: Vec<Tensor>,
    /// The greedy continuation, `[rows, horizons]`, i64: what horizon k predicts is in column `k - 1`.
    pub tokens: Tensor,
}

impl Sources {
    /// Runs `contexts` and continues them greedily by `horizons` tokens out of the first `vocab` of the vocabulary.
    /// `stage` counts their tokens.
    ///
    /// # Errors
    /// When a context and its continuation are longer than the model's context, or a state is not finite.
    pub fn run(
        model: &Model,
        contexts: &[Window],
        layers: &[usize],
        horizons: usize,
        vocab: usize,
        batch_tokens: usize,
        stage: &Underway<'_>,
    ) -> Result<Self, FutureError> {
        let _no_grad = tch::no_grad_guard();
        let last = model.spec().n_layers;
        if let Some(layer) = layers.iter().copied().find(|layer| *layer > last) {
            return Err(FutureError::NoLayer { layer, last });
        }
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        each_batch(contexts, batch_tokens, stage, |batch| -> Result<(), FutureError> {
            let ids = batch.ids().to_device(model.device());
            parts.push(Part::run(model, &ids, layers, horizons, vocab as i64)?);
            order.extend(batch.places);
            Ok(())
        })?;
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, i)| back[*i] = place as i64);
        let back = Tensor::from_slice(&back).to_device(model.device());
        let gather = |of: &dyn Fn(&Part) -> &Tensor| -> Result<Tensor, FutureError> {
            let all: Vec<&Tensor> = parts.iter().map(of).collect();
            Ok(Tensor::f_cat(&all, 0)?.f_index_select(0, &back)?)
        };
        let state = |layer: &usize| Ok((*layer, gather(&|part| &part.states[layer])?));
        let sources = Self {
            docs: contexts.iter().map(Window::document).collect(),
            ends: contexts
                .iter()
                .map(|w| [w.ids[w.ids.len().saturating_sub(2)], w.ids[w.ids.len() - 1]])
                .collect(),
            states: layers.iter().map(state).collect::<Result<_, FutureError>>()?,
            last: (0..horizons).map(|k| gather(&|part| &part.last[k])).collect::<Result<_, _>>()?,
            tokens: gather(&|part| &part.tokens)?,
        };
        sources.check()
    }

    /// Contexts there are.
    pub fn rows(&self) -> usize {
        self.docs.len()
    }

    /// The token that `horizon` predicts, per row.
    pub fn targets(&self, horizon: usize) -> Vec<i64> {
        let column = self.tokens.select(1, horizon as i64 - 1).to_device(Device::Cpu).contiguous();
        Vec::try_from(column).unwrap_or_default() // i64 on the CPU, which converts
    }

    /// What is fed to predict `horizon`: `[rows, horizon - 1]`.
    pub fn fed(&self, horizon: usize) -> Tensor {
        self.tokens.narrow(1, 0, horizon as i64 - 1)
    }

    fn check(self) -> Result<Self, FutureError> {
        let states = self.states.iter().map(|(layer, t)| (format!("layer {layer}"), t));
        let last =
            self.last.iter().enumerate().map(|(k, t)| (format!("the last layer, horizon {}", k + 1), t));
        for (at, tensor) in states.chain(last) {
            if let Some(row) = not_finite(tensor)? {
                return Err(FutureError::State { at, document: self.docs[row] });
            }
        }
        Ok(self)
    }
}

/// Contexts of one length.
struct Part {
    states: BTreeMap<usize, Tensor>,
    last: Vec<Tensor>,
    tokens: Tensor,
}

impl Part {
    /// One pass per horizon; the last of them sees everything.
    fn run(
        model: &Model,
        ids: &Tensor,
        layers: &[usize],
        horizons: usize,
        vocab: i64,
    ) -> Result<Self, FutureError> {
        let length = ids.size()[1];
        let mut all = ids.shallow_clone();
        let mut next = Vec::new();
        let mut seen =
            Ends { at: length - 1, last: model.spec().n_layers, layers: &[], kept: BTreeMap::new() };
        for k in 1..=horizons {
            if k == horizons {
                seen.layers = layers;
            }
            let _none = model.forward(&all, &mut seen)?;
            let stream = seen.take(seen.last)?;
            let end = stream.select(1, k as i64 - 1);
            let token = model.unembed().logits(&end)?.narrow(-1, 0, vocab).f_argmax(-1, true)?;
            all = Tensor::f_cat(&[&all, &token], 1)?;
            next.push(token);
            if k == horizons {
                let end = model.spec().n_layers;
                let mut states = BTreeMap::new();
                for &layer in layers {
                    let kept = if layer == end { stream.shallow_clone() } else { seen.take(layer)? };
                    states.insert(layer, kept.select(1, 0));
                }
                let last = (0..horizons as i64).map(|k| stream.select(1, k)).collect();
                return Ok(Self { states, last, tokens: Tensor::f_cat(&next, 1)? });
            }
        }
        Err(FutureError::NoContexts { least: 1 }) // no horizon was asked for
    }
}

/// Keeps the stream from position `at` on: of the end always, of `layers` that position alone.
struct Ends<'a> {
    at: i64,
    last: usize,
    layers: &'a [usize],
    kept: BTreeMap<usize, Tensor>,
}

impl Ends<'_> {
    fn take(&mut self, layer: usize) -> Result<Tensor, ModelError> {
        self.kept.remove(&layer).ok_or_else(|| ModelError::Input(format!("layer {layer} was not computed")))
    }
}

impl Tap for Ends<'_> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        if let HookPoint::Block(layer, _) = point {
            let length = if layer == self.last { value.size()[1] - self.at } else { 1 };
            let _older = self.kept.insert(layer, value.narrow(1, self.at, length).copy());
        }
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        let asked = |layer: usize| layer == self.last || self.layers.contains(&layer);
        matches!(point, HookPoint::Block(layer, BlockHook::ResidPre) if asked(layer))
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(HookPoint::resid_pre(self.last))
    }
}

/// Rows of `states` of another's: `[rows, d_model]`, row i that of `from[i]`.
pub(super) fn rows_of(states: &Tensor, from: &[i64]) -> Result<Tensor, FutureError> {
    Ok(states.f_index_select(0, &Tensor::from_slice(from).to_device(states.device()))?)
}

/// The mean row, as often as there are rows.
pub(super) fn mean_rows(states: &Tensor) -> Result<Tensor, FutureError> {
    let mean = states.f_mean_dim(0, true, Kind::Double)?.to_kind(states.kind());
    Ok(mean.f_expand_as(states)?)
}
