//! What differs between kinds of lenses: what is fitted, and where it begins.

use super::{
    Fit, Fitting, Init, OptimizerSetting, Plan, ROTATED,
    moments::{MOMENT_TOKENS, closed_form, linear_moments, ridge, stream},
};
use crate::{
    job::{JobError, Watch},
    lens::artifact::LensKind,
    lens::fit::{ClosedForm, FitTarget},
    lenses::{
        Affine, CrossMoments, FutureFit, Horizon, LayerIndex, Moments, Regression, Rows, Rung, Translators,
        fit::{Fitter, Recipe},
        rotate, standardise,
    },
};
use tch::Tensor;

/// Everything that is fitted for this kind of lens, at its beginning. With `resumed` closed forms are left out that a
/// checkpoint has gone beyond.
pub(super) fn targets(
    job: &Fit,
    fit: &Fitting<'_>,
    plan: &Plan,
    resumed: bool,
    watch: &dyn Watch,
) -> Result<Vec<FitTarget>, JobError> {
    let steps = || fit.steps().map(|s| s.len()).map_err(JobError::usage);
    match job.kind {
        LensKind::Tuned => {
            let init = match (job.init, job.optimizer) {
                (Init::Ridge, OptimizerSetting::Kfac) if !resumed => {
                    let moments = linear_moments(fit, plan, MOMENT_TOKENS, watch)?;
                    Some(closed_form(&moments, plan, job)?)
                }
                _ => None,
            };
            let recipe = recipe(job, plan, steps()?);
            Ok(vec![target("tuned".into(), 1, recipe, Rung::Tuned, features(plan), init, fit)?])
        }
        LensKind::Linear => {
            let moments = linear_moments(fit, plan, usize::MAX, watch)?;
            let init = Some(closed_form(&moments, plan, job)?);
            let recipe = recipe(job, plan, 0);
            Ok(vec![target("linear".into(), 1, recipe, Rung::Tuned, features(plan), init, fit)?])
        }
        LensKind::Future | LensKind::FutureVocab | LensKind::FuturePrompt | LensKind::Jacobian => {
            future(job, fit, plan, resumed, if job.refine { steps()? } else { 0 }, watch)
        }
        LensKind::Shared => shared(job, fit, plan, resumed, steps()?, watch),
    }
}

fn recipe(job: &Fit, plan: &Plan, steps: usize) -> Recipe {
    Recipe {
        loss: job.loss.into(),
        optimizer: job.optimizer.into(),
        rate: plan.rate,
        trust: job.trust,
        steps,
        patience: job.patience,
    }
}

fn features(plan: &Plan) -> Vec<Option<Affine>> {
    plan.layers.iter().map(|_| None).collect()
}

fn target(
    name: String,
    horizon: usize,
    recipe: Recipe,
    rung: Rung,
    features: Vec<Option<Affine>>,
    init: Option<Vec<Affine>>,
    fit: &Fitting<'_>,
) -> Result<FitTarget, JobError> {
    let (d, device) = (fit.readout.d_model(), fit.readout.weight().device());
    let translators = Translators::identity(rung, features, d, device);
    let fitter = Fitter::new(recipe, translators).map_err(JobError::usage)?;
    Ok(FitTarget { name, horizon, fitter, init: init.map(ClosedForm::Layers) })
}

fn future(
    job: &Fit,
    fit: &Fitting<'_>,
    plan: &Plan,
    resumed: bool,
    steps: usize,
    watch: &dyn Watch,
) -> Result<Vec<FitTarget>, JobError> {
    let mut moments =
        FutureFit::new(&plan.layers, fit.readout.d_model(), job.horizons, fit.readout.weight().device());
    if !resumed {
        stream(fit, usize::MAX, watch, &mut |states| {
            let layers = plan.layers.iter().copied().zip(states.layers.iter().map(Tensor::shallow_clone));
            moments.add(&layers.collect::<Vec<_>>(), &states.last, &states.runs)
        })?;
    }
    let one = |k: usize| {
        let init = if resumed {
            None
        } else {
            let lens = moments.finish("closed form", Horizon(k), &ridge(job, Horizon(k)))?;
            Some(plan.layers.iter().filter_map(|l| lens.translators().get(l).map(Affine::copy)).collect())
        };
        target(format!("horizon {k}"), k, recipe(job, plan, steps), Rung::Tuned, features(plan), init, fit)
    };
    (1..=job.horizons).map(one).collect()
}

/// Every rung asked for, and the control in which layers share nothing.
fn shared(
    job: &Fit,
    fit: &Fitting<'_>,
    plan: &Plan,
    resumed: bool,
    steps: usize,
    watch: &dyn Watch,
) -> Result<Vec<FitTarget>, JobError> {
    let moments = linear_moments(fit, plan, MOMENT_TOKENS, watch)?;
    let of = |layer: &LayerIndex| moments.moments(*layer).map_err(JobError::from);
    let end = of(&LayerIndex(plan.target))?;
    let standard = || {
        let maps = plan.layers.iter().map(|l| Ok(Some(standardise(of(l)?, end)?)));
        maps.collect::<Result<Vec<_>, JobError>>()
    };
    let mut targets = Vec::new();
    for &rung in &plan.rungs {
        let features = if rung == Rung::Standardised { standard()? } else { features(plan) };
        targets.push(target(rung.to_string(), 1, recipe(job, plan, steps), rung, features, None, fit)?);
    }
    let rotated = plan.layers.iter().map(|l| Ok(Some(rotate(of(l)?, job.seed, *l)?)));
    let rotated = rotated.collect::<Result<Vec<_>, JobError>>()?;
    targets.push(target(ROTATED.into(), 1, recipe(job, plan, steps), Rung::Affine, rotated, None, fit)?);
    if !resumed {
        pooled(job, fit, plan, &mut targets, watch)?;
    }
    Ok(targets)
}

/// Gives every rung with a shared matrix the regression of the last layer on the states of all layers together.
fn pooled(
    job: &Fit,
    fit: &Fitting<'_>,
    plan: &Plan,
    targets: &mut [FitTarget],
    watch: &dyn Watch,
) -> Result<(), JobError> {
    let d = fit.readout.d_model();
    let sums = || {
        (
            Moments::new(d, fit.readout.weight().device()),
            CrossMoments::new(d, d, fit.readout.weight().device()),
        )
    };
    let mut all: Vec<_> = targets.iter().map(|_| sums()).collect();
    stream(fit, MOMENT_TOKENS, watch, &mut |states| {
        let last = Rows::new("the last layer", &states.last)?;
        for (target, (x, pairs)) in targets.iter().zip(&mut all) {
            let translators = target.fitter.translators();
            for place in (0..plan.layers.len()).filter(|_| translators.rung.has_shared_matrix()) {
                let rows = translators.features_of(place, &states.layers[place])?;
                let rows = Rows::new(format_args!("layer {}", plan.layers[place]), &rows)?;
                x.add(&rows)?;
                pairs.add(&rows, &last)?;
            }
        }
        Ok(())
    })?;
    for (target, (x, pairs)) in targets.iter_mut().zip(&all) {
        if target.fitter.translators().rung.has_shared_matrix() {
            let map = Regression::new(&target.name, x, pairs)?.solve(&ridge(job, Horizon::NEXT))?;
            target.init = Some(ClosedForm::Shared(map));
        }
    }
    Ok(())
}
