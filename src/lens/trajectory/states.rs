//! One prompt's states, to be read through any number of lenses.

use layerscope_lenses::{
    LayerIndex, Lens,
    stats::{Readings, readings},
};
use tch::{Kind, Tensor};

use super::{LensTrace, Trajectory, traced};
use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError},
    states::check_prompt,
};

/// Largest number of logits held at once; more rows are read in parts.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// Which tokens' probabilities are followed through every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracked {
    /// Those that are first at some layer, and the true one.
    First,
    /// All that are among the kept ones at some layer, and the true one.
    Top,
}

/// The residual stream of a prompt at some layers.
#[derive(Debug)]
pub struct PromptStates<'a> {
    model: &'a Model,
    capture: Capture,
    /// The state of layer `L`, `[seq, d_model]`.
    last: Tensor,
    ids: Vec<i64>,
}

impl<'a> PromptStates<'a> {
    /// Runs `ids` through the model, keeping the states of `layers` and of `L`.
    ///
    /// # Errors
    /// When the prompt is empty or longer than the context, or a state is not finite (named by layer and position).
    pub fn run(model: &'a Model, ids: &[u32], layers: &[LayerIndex]) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let wanted: Selection = layers.iter().copied().chain([output_of(model)]).map(point).collect();
        let mut capture = Capture::new(wanted);
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        model.forward(&Tensor::from_slice(&ids).unsqueeze(0), &mut capture)?;
        let last = resid(&capture, output_of(model))?;
        for layer in layers.iter().copied().chain([output_of(model)]) {
            check_prompt(&resid(&capture, layer)?, point(layer))?;
        }
        Ok(Self { model, capture, last, ids })
    }

    /// The stream of a layer that was kept, `[seq, d_model]`.
    ///
    /// # Errors
    /// When it was not.
    pub fn state(&self, layer: LayerIndex) -> Result<Tensor, ModelError> {
        resid(&self.capture, layer)
    }

    /// What `lens` says at `layers`, with the `k` likeliest tokens. A lens of horizon `h` is compared with the model's
    /// prediction `h - 1` positions later.
    ///
    /// # Errors
    /// When the lens does not fit the model, cannot read one of the layers, or what it reads is not finite.
    pub fn read(&self, lens: &dyn Lens, layers: &[LayerIndex], k: usize) -> Result<Trajectory, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let horizon = lens.horizon().0;
        let (own, next) = (self.own(horizon), self.next(horizon));
        let one = |&layer: &LayerIndex| -> Result<Readings, ModelError> {
            let state = self.translated(lens, layer)?;
            let parts = self.parts().map(|(first, n)| {
                let logits = |t: &Tensor| self.model.unembed().logits(&t.narrow(0, first, n));
                Ok(readings(
                    &logits(&state)?,
                    &logits(&own)?,
                    &next[first as usize..(first + n) as usize],
                    k,
                )?)
            });
            let read = Readings::concat(parts.collect::<Result<Vec<_>, ModelError>>()?);
            finite(&read, lens.name(), layer)?;
            Ok(read)
        };
        let readings = layers.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Trajectory { lens: lens.name().to_owned(), horizon, layers: layers.to_vec(), readings })
    }

    /// [`PromptStates::read`] at those of `layers` that the lens can read, with tokens followed through all of them.
    ///
    /// # Errors
    /// When the lens does not fit the model.
    pub fn trace(
        &self,
        lens: &dyn Lens,
        layers: &[LayerIndex],
        k: usize,
        tracked: Tracked,
    ) -> Result<LensTrace, ModelError> {
        let next_token = lens.horizon().0 == 1;
        let reads = |layer: &LayerIndex| {
            if *layer == output_of(self.model) { next_token } else { lens.reads(*layer) }
        };
        let layers: Vec<_> = layers.iter().copied().filter(reads).collect();
        let trajectory = self.read(lens, &layers, k)?;
        let wanted = traced::wanted(&trajectory, &self.next(trajectory.horizon), tracked);
        let probs =
            layers.iter().map(|&l| self.probabilities(lens, l, &wanted)).collect::<Result<Vec<_>, _>>()?;
        Ok(traced::lens_trace(&trajectory, &wanted, &probs))
    }

    /// Probabilities of the tokens `wanted` at every position, in the same order.
    fn probabilities(
        &self,
        lens: &dyn Lens,
        layer: LayerIndex,
        wanted: &[Vec<i64>],
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let state = self.translated(lens, layer)?;
        let width = wanted.iter().map(Vec::len).max().unwrap_or(0);
        let padded =
            |ids: &Vec<i64>| ids.iter().copied().chain(vec![0; width - ids.len()]).collect::<Vec<_>>();
        let mut rows = Vec::new();
        for (first, n) in self.parts() {
            let ids: Vec<i64> =
                wanted[first as usize..(first + n) as usize].iter().flat_map(padded).collect();
            let ids = Tensor::from_slice(&ids).view([n, width as i64]).to_device(state.device()); // [n, width]
            let logits = self.model.unembed().logits(&state.narrow(0, first, n))?.to_kind(Kind::Double);
            let probs = logits.softmax(-1, Kind::Double).gather(-1, &ids, false).to_device(tch::Device::Cpu);
            let flat = Vec::<f64>::try_from(probs.contiguous().view(-1))?;
            rows.extend(flat.chunks(width.max(1)).map(<[f64]>::to_vec));
        }
        rows.iter_mut().zip(wanted).for_each(|(row, ids)| row.truncate(ids.len()));
        Ok(rows)
    }

    /// A layer's states as the lens makes states of layer `L` of them, `[seq, d_model]`.
    fn translated(&self, lens: &dyn Lens, layer: LayerIndex) -> Result<Tensor, ModelError> {
        if layer == output_of(self.model) {
            return Ok(self.last.shallow_clone());
        }
        Ok(lens.transform(layer, &resid(&self.capture, layer)?)?)
    }

    /// The model's own states to compare with: `horizon - 1` positions later, the last one again where there is none.
    fn own(&self, horizon: usize) -> Tensor {
        let last = self.ids.len() as i64 - 1;
        let places: Vec<i64> = (0..=last).map(|i| (i + horizon as i64 - 1).min(last)).collect();
        self.last.index_select(0, &Tensor::from_slice(&places).to_device(self.last.device()))
    }

    /// The true tokens `horizon` positions later; -1 where there is none.
    fn next(&self, horizon: usize) -> Vec<i64> {
        // Behind a mask nobody knows the token; elsewhere it is in sight.
        if self.model.spec().encoder.is_some() {
            return vec![-1; self.ids.len()];
        }
        let known = self.ids.iter().skip(horizon).copied();
        known.chain(std::iter::repeat(-1)).take(self.ids.len()).collect()
    }

    /// First row and number of rows of parts whose logits fit.
    fn parts(&self) -> impl Iterator<Item = (i64, i64)> {
        let rows = (LOGITS_AT_ONCE / self.model.unembed().vocab()).max(1);
        let n = self.ids.len();
        (0..n).step_by(rows).map(move |first| (first as i64, rows.min(n - first) as i64))
    }
}

/// That finite states were read as finite numbers: their logits can overflow.
fn finite(read: &Readings, lens: &str, layer: LayerIndex) -> Result<(), ModelError> {
    let good = |i: &usize| {
        let numbers = read.top_probs[*i].iter().chain([&read.entropy[*i], &read.kl[*i]]);
        numbers.chain(&read.ce[*i]).all(|x| x.is_finite())
    };
    match (0..read.entropy.len()).find(|i| !good(i)) {
        None => Ok(()),
        Some(i) => Err(ModelError::Input(format!(
            "what lens {lens} reads at layer {layer} is not finite at position {i} of the prompt"
        ))),
    }
}

fn point(layer: LayerIndex) -> HookPoint {
    HookPoint::resid_pre(layer.0)
}

fn output_of(model: &Model) -> LayerIndex {
    LayerIndex(model.spec().n_layers)
}

fn resid(capture: &Capture, layer: LayerIndex) -> Result<Tensor, ModelError> {
    let kept = capture.get(point(layer)).map(|t| t.squeeze_dim(0)); // [seq, d_model]
    kept.ok_or_else(|| ModelError::Input(format!("layer {layer} was not computed")))
}
