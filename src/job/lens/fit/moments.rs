//! Closed forms: moments of the first tokens, streamed.

use super::{Fit, Fitting, Plan};
use crate::{
    hook::HookPoint,
    job::{JobError, Watch},
    lens::fit::FitError,
    lenses::{Affine, Error, Horizon, LayerIndex, LinearFit, Ridge},
    states::States,
};
use tch::Tensor;

/// Tokens whose moments a tuned lens's closed form, or a shared lens's features, are made of.
pub(super) const MOMENT_TOKENS: usize = 1 << 17;

/// Streams the states of the first `tokens` tokens in fitting order to `add`.
pub(super) fn stream(
    fit: &Fitting<'_>,
    tokens: usize,
    watch: &dyn Watch,
    add: &mut dyn FnMut(&States) -> Result<(), Error>,
) -> Result<(), JobError> {
    let mut seen = 0;
    let few = |i: &&usize| {
        let take = seen < tokens;
        seen += fit.windows[**i].ids.len();
        take
    };
    let windows: Vec<usize> = fit.split.train.iter().take_while(few).copied().collect();
    let all: usize = windows.iter().map(|i| fit.windows[*i].ids.len()).sum();
    let stage = watch.begin("closed form", "tokens", Some(all as u64));
    fit.each_batch(&windows, &stage, &mut |states| {
        add(states).map_err(|source| FitError::Lens { target: "closed form".into(), step: 0, source })
    })?;
    Ok(())
}

/// Moments of every layer with the one that translators map to.
pub(super) fn linear_moments(
    fit: &Fitting<'_>,
    plan: &Plan,
    tokens: usize,
    watch: &dyn Watch,
) -> Result<LinearFit, JobError> {
    let to = LayerIndex(plan.target);
    let points: Vec<HookPoint> = fit.points.iter().copied().chain([HookPoint::resid_pre(to.0)]).collect();
    let fit = Fitting { points: &points, ..*fit };
    let layers: Vec<LayerIndex> = plan.layers.iter().copied().chain([to]).collect();
    let mut moments =
        LinearFit::new(&plan.layers, &[to], fit.readout.d_model(), fit.readout.weight().device());
    stream(&fit, tokens, watch, &mut |states| {
        let states = states.layers.iter().map(Tensor::shallow_clone);
        moments.add(&layers.iter().copied().zip(states).collect::<Vec<_>>())
    })?;
    Ok(moments)
}

pub(super) fn ridge(job: &Fit, horizon: Horizon) -> Ridge {
    Ridge { lambda: job.ridge, ..Ridge::for_horizon(horizon) }
}

/// The regression of the last layer on every layer.
pub(super) fn closed_form(moments: &LinearFit, plan: &Plan, job: &Fit) -> Result<Vec<Affine>, JobError> {
    let lens = moments.finish("closed form", LayerIndex(plan.target), &ridge(job, Horizon::NEXT))?;
    Ok(plan.layers.iter().filter_map(|l| lens.translators().get(l).map(Affine::copy)).collect())
}
