//! `lens fit --kind future-vocab`: logits of a later token as a linear function of a state, by least squares.
//!
//! Logits are `W_U n + b` of the normalised final state `n`, so the best linear map from a state to logits, in squares
//! weighted by `W_U`, is `W_U` times the best map to `n`: a regression of `d` numbers stands for one of the whole
//! vocabulary.

use std::collections::BTreeMap;

use super::{Fit, Fitting, Plan, moments::stream};
use crate::{
    job::{JobError, Watch},
    lenses::{FutureFit, Horizon, Ridge, Shrink},
};
use tch::Tensor;

/// The maps by the names of the folder.
pub(super) fn tensors(
    job: &Fit,
    fit: &Fitting<'_>,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<BTreeMap<String, Tensor>, JobError> {
    let readout = fit.readout;
    let device = readout.weight().device();
    let mut moments = FutureFit::new(&plan.layers, readout.d_model(), job.horizons, device);
    stream(fit, usize::MAX, watch, &mut |states| {
        let layers = plan.layers.iter().copied().zip(states.layers.iter().map(Tensor::shallow_clone));
        moments.add(&layers.collect::<Vec<_>>(), &readout.normalize(&states.last)?, &states.runs)
    })?;
    let ridge = Ridge { lambda: job.ridge, shrink: Shrink::Zero, bias: true };
    let mut tensors = BTreeMap::new();
    for k in 1..=job.horizons {
        let lens = moments.finish("future-vocab", Horizon(k), &ridge)?;
        for (layer, map) in lens.translators() {
            tensors.insert(format!("layer.{layer}.horizon.{k}.weight"), map.weight.shallow_clone());
            tensors.insert(format!("layer.{layer}.horizon.{k}.bias"), map.bias.shallow_clone());
        }
    }
    Ok(tensors)
}
