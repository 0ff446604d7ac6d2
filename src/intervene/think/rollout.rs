//! The loop: prompt, thoughts, answer.

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};

use super::{
    Fed, ThinkError,
    feed::{kept, places},
};
use crate::{
    hook::{Capture, HookPoint, Selection},
    intervene::generate::{Generated, Prompt, Settings, TapSteps, generate},
    model::{Cache, Model, Schedule},
};

/// What happens to the length of a state before it is fed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rescale {
    /// It stays.
    None,
    /// It becomes this, such as the [mean length of embeddings](super::Embeddings::mean_norm).
    To(f64),
}

/// How states become thoughts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feedback {
    /// Thoughts, K.
    pub steps: usize,
    /// Whose stream is fed back, 0 to L.
    pub layer: usize,
    /// Whether the final norm is applied to it, as in transformers' `hidden_states[-1]`.
    pub norm: bool,
    /// Its length.
    pub rescale: Rescale,
    /// Thought `i`, from 1, is multiplied by `decay^i`.
    pub decay: f64,
}

impl Feedback {
    /// `steps` thoughts of `layer`; the final norm is applied to that of the last layer only.
    pub fn new(steps: usize, layer: usize, n_layers: usize) -> Self {
        Self { steps, layer, norm: layer == n_layers, rescale: Rescale::None, decay: 1.0 }
    }

    /// Fails where the model has no such layer, or a number makes no sense.
    ///
    /// # Errors
    /// [`ThinkError::NoLayer`], [`ThinkError::Setting`].
    pub fn check(&self, n_layers: usize) -> Result<(), ThinkError> {
        if self.layer > n_layers {
            return Err(ThinkError::NoLayer { layer: self.layer, last: n_layers });
        }
        let positive = |what, value: f64| {
            let good = value.is_finite() && value > 0.0;
            if good { Ok(()) } else { Err(ThinkError::Setting { what, value, must: "above 0" }) }
        };
        positive("decay", self.decay)?;
        if let Rescale::To(length) = self.rescale {
            positive("the length of a thought", length)
        } else {
            Ok(())
        }
    }

    /// Thought `step` (from 1) of states `[rows, d_model]`.
    fn thought(&self, model: &Model, state: &Tensor, step: usize) -> Result<Tensor, ThinkError> {
        let mut thought = if self.norm { model.unembed().normalize(state)? } else { state.shallow_clone() };
        if let Rescale::To(length) = self.rescale {
            let own = thought.f_norm_scalaropt_dim(2.0, [-1_i64].as_slice(), true)?;
            thought = thought.f_mul(&own.f_reciprocal()?.f_mul_scalar(length)?)?;
        }
        if self.decay != 1.0 {
            thought = thought.f_mul_scalar(self.decay.powi(step as i32))?;
        }
        let finite = thought.f_isfinite()?.f_all_dim(-1, false)?.f_to_kind(Kind::Int64)?;
        if finite.f_min()?.int64_value(&[]) == 0 {
            let prompt = finite.f_argmin(0, false)?.int64_value(&[]) as usize;
            return Err(ThinkError::NotFinite { step, prompt });
        }
        Ok(thought)
    }
}

/// What a batch of prompts of one length thought.
#[derive(Debug)]
pub struct Rollout {
    /// What was fed, `[rows, K, d_model]`.
    pub thoughts: Tensor,
    /// The states they were made of: the stream at the layer, `[rows, K, d_model]`.
    pub states: Tensor,
    /// What leaves the last block at the prompt's last position and at every thought's, before the final norm:
    /// `[rows, K + 1, d_model]`. The first K are where thoughts come from, the last predicts the answer's first token.
    pub ends: Tensor,
}

/// Whether prompt, thoughts and answer fit the context (the last new token is said, not read).
///
/// # Errors
/// [`ThinkError::NoRoom`].
pub fn fits(prompt: usize, thoughts: usize, new: usize, context: usize) -> Result<(), ThinkError> {
    let read = prompt.saturating_add(thoughts).saturating_add(new.saturating_sub(1));
    if prompt == 0 || read > context {
        Err(ThinkError::NoRoom { prompt, thoughts, new, context })
    } else {
        Ok(())
    }
}

/// Runs prompts `ids [rows, P]` and `feedback.steps` thoughts after them, one pass per thought, with keys and values
/// kept or without.
///
/// # Errors
/// [`ThinkError`]: settings out of range, a sequence beyond the context, thoughts that are not finite.
pub fn rollout(model: &Model, ids: &Tensor, feedback: &Feedback, cache: bool) -> Result<Rollout, ThinkError> {
    let none = [ids.size2()?.0, 0, model.spec().d_model as i64];
    rollout_from(model, ids, &Tensor::zeros(none, (model.kind(), model.device())), feedback, cache)
}

/// As [`rollout`], where the first thoughts are `given [rows, n, d_model]`, at most `feedback.steps`, and only the rest
/// is thought.
///
/// # Errors
/// As [`rollout`].
pub fn rollout_from(
    model: &Model,
    ids: &Tensor,
    given: &Tensor,
    feedback: &Feedback,
    cache: bool,
) -> Result<Rollout, ThinkError> {
    let _no_grad = tch::no_grad_guard();
    let (last, (rows, prompt), given_steps) = (model.spec().n_layers, ids.size2()?, given.size3()?.1);
    feedback.check(last)?;
    fits(prompt as usize, feedback.steps, 1, model.spec().n_ctx)?;
    let alike = model.spec().rotates_alike(prompt as usize, prompt as usize + feedback.steps);
    let mut cache = (cache && alike).then(Cache::new);
    let own = Schedule::identity(last);
    let selection: Selection =
        [HookPoint::resid_pre(feedback.layer), HookPoint::resid_pre(last)].into_iter().collect();
    let steps = feedback.steps as i64;
    let (mut thoughts, mut states, mut ends) = (given.shallow_clone(), Vec::new(), Vec::new());
    for step in given_steps.min(steps)..=steps {
        let all = Tensor::f_cat(&[&ids.to_device(Device::Cpu), &places(rows, step)], 1)?;
        let seen = cache.as_ref().map_or(0, Cache::positions) as i64;
        let mut taps = (Fed::new(prompt as usize, &thoughts), Capture::new(selection.clone()).run_on());
        let new = all.f_narrow(1, seen, prompt + step - seen)?;
        let _logits = model.forward_along(&new, &own, cache.as_mut(), &mut taps)?;
        // The first pass has the places of what was given, too.
        let n = if ends.is_empty() { step + 1 } else { 1 };
        let at = |layer| -> Result<Tensor, ThinkError> {
            let kept = kept(&taps.1, layer)?;
            Ok(kept.f_narrow(1, kept.size3()?.1 - n, n)?)
        };
        ends.push(at(last)?);
        let state = at(feedback.layer)?;
        if step < steps {
            let thought = feedback.thought(model, &state.f_select(1, -1)?, step as usize + 1)?;
            thoughts = Tensor::f_cat(&[&thoughts, &thought.f_unsqueeze(1)?], 1)?;
        }
        states.push(state);
    }
    let states = Tensor::f_cat(&states, 1)?.f_narrow(1, 0, steps)?;
    Ok(Rollout { thoughts: thoughts.f_narrow(1, 0, steps)?, states, ends: Tensor::f_cat(&ends, 1)? })
}

/// The answers of prompts `ids [rows, P]` after `vectors [rows, k, d_model]` were fed.
///
/// # Errors
/// As [`generate`].
pub fn answers(
    model: &Model,
    ids: &Tensor,
    vectors: &Tensor,
    settings: &Settings,
) -> Result<Vec<Generated>, ThinkError> {
    let (prompt, k) = (ids.size2()?.1 as usize, vectors.size3()?.1 as usize);
    let row = |(index, row): (usize, Tensor)| -> Result<Prompt, ThinkError> {
        let ids = Vec::<i64>::try_from(row.to_device(Device::Cpu))?.into_iter().map(|id| id as u32);
        Ok(Prompt { index, ids: ids.chain(std::iter::repeat_n(0, k)).collect() })
    };
    let prompts = ids.unbind(0).into_iter().enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    let settings = Settings { tap_steps: TapSteps::All, ..settings.clone() };
    Ok(generate(model, &prompts, &settings, &mut Fed::new(prompt, vectors), &mut |_| {
        ControlFlow::Continue(())
    })?)
}
