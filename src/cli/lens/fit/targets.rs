//! What differs between kinds of lenses: what is fitted, and where it begins.

use layerscope::{
    lens::fit::{ClosedForm, Fit, Target},
    lenses::{
        Affine, CrossMoments, FutureFit, Horizon, LayerIndex, Moments, Regression, Rows, Rung, Translators,
        fit::{Fitter, Optimizer, Recipe},
        rotate, standardise,
    },
};
use tch::Tensor;

use super::{
    super::super::{exit::Failure, output::Output},
    ROTATED,
    args::{FitArgs, Init, Kind_},
    moments::{MOMENT_TOKENS, closed_form, linear_moments, ridge, stream},
    plan::Plan,
};

/// Everything that is fitted for this kind of lens, at its beginning. With `resumed` closed forms are left out that a
/// checkpoint has gone beyond.
pub(super) fn targets(
    args: &FitArgs,
    fit: &Fit<'_>,
    plan: &Plan,
    resumed: bool,
    output: Output,
) -> Result<Vec<Target>, Failure> {
    let steps = || fit.steps().map(|s| s.len()).map_err(Failure::usage);
    match args.kind {
        Kind_::Tuned => {
            let init = match (args.init, args.optimizer()) {
                (Init::Ridge, Optimizer::Kfac) if !resumed => {
                    let moments = linear_moments(fit, plan, MOMENT_TOKENS, output)?;
                    Some(closed_form(&moments, plan, args)?)
                }
                _ => None,
            };
            Ok(vec![target(
                "tuned".into(),
                1,
                recipe(args, plan, steps()?),
                Rung::Tuned,
                features(plan),
                init,
                fit,
            )?])
        }
        Kind_::Linear => {
            let moments = linear_moments(fit, plan, usize::MAX, output)?;
            let init = Some(closed_form(&moments, plan, args)?);
            Ok(vec![target(
                "linear".into(),
                1,
                recipe(args, plan, 0),
                Rung::Tuned,
                features(plan),
                init,
                fit,
            )?])
        }
        Kind_::Future | Kind_::FutureVocab | Kind_::FuturePrompt => {
            future(args, fit, plan, resumed, if args.refine { steps()? } else { 0 }, output)
        }
        Kind_::Shared => shared(args, fit, plan, resumed, steps()?, output),
    }
}

fn recipe(args: &FitArgs, plan: &Plan, steps: usize) -> Recipe {
    Recipe {
        loss: args.loss(),
        optimizer: args.optimizer(),
        rate: plan.rate,
        trust: args.trust,
        steps,
        patience: args.patience,
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
    fit: &Fit<'_>,
) -> Result<Target, Failure> {
    let (d, device) = (fit.readout.d_model(), fit.readout.weight().device());
    let translators = Translators::identity(rung, features, d, device);
    let fitter = Fitter::new(recipe, translators).map_err(Failure::usage)?;
    Ok(Target { name, horizon, fitter, init: init.map(ClosedForm::Layers) })
}

fn future(
    args: &FitArgs,
    fit: &Fit<'_>,
    plan: &Plan,
    resumed: bool,
    steps: usize,
    output: Output,
) -> Result<Vec<Target>, Failure> {
    let mut moments =
        FutureFit::new(&plan.layers, fit.readout.d_model(), args.horizons, fit.readout.weight().device());
    if !resumed {
        stream(fit, usize::MAX, output, &mut |states| {
            let layers = plan.layers.iter().copied().zip(states.layers.iter().map(Tensor::shallow_clone));
            moments.add(&layers.collect::<Vec<_>>(), &states.last, &states.runs)
        })?;
    }
    let one = |k: usize| {
        let init = if resumed {
            None
        } else {
            let lens = moments.finish("closed form", Horizon(k), &ridge(args, Horizon(k)))?;
            Some(plan.layers.iter().filter_map(|l| lens.translators().get(l).map(Affine::copy)).collect())
        };
        target(format!("horizon {k}"), k, recipe(args, plan, steps), Rung::Tuned, features(plan), init, fit)
    };
    (1..=args.horizons).map(one).collect()
}

/// Every rung asked for, and the control in which layers share nothing.
fn shared(
    args: &FitArgs,
    fit: &Fit<'_>,
    plan: &Plan,
    resumed: bool,
    steps: usize,
    output: Output,
) -> Result<Vec<Target>, Failure> {
    let moments = linear_moments(fit, plan, MOMENT_TOKENS, output)?;
    let of = |layer: &LayerIndex| moments.moments(*layer).map_err(Failure::from);
    let end = of(&LayerIndex(plan.target))?;
    let standard = || {
        let maps = plan.layers.iter().map(|l| Ok(Some(standardise(of(l)?, end)?)));
        maps.collect::<Result<Vec<_>, Failure>>()
    };
    let mut targets = Vec::new();
    for &rung in &plan.rungs {
        let features = if rung == Rung::Standardised { standard()? } else { features(plan) };
        targets.push(target(rung.to_string(), 1, recipe(args, plan, steps), rung, features, None, fit)?);
    }
    let rotated = plan.layers.iter().map(|l| Ok(Some(rotate(of(l)?, args.common.seed, *l)?)));
    let rotated = rotated.collect::<Result<Vec<_>, Failure>>()?;
    targets.push(target(ROTATED.into(), 1, recipe(args, plan, steps), Rung::Affine, rotated, None, fit)?);
    if !resumed {
        pooled(args, fit, plan, &mut targets, output)?;
    }
    Ok(targets)
}

/// Gives every rung with a shared matrix the regression of the last layer on the states of all layers together.
fn pooled(
    args: &FitArgs,
    fit: &Fit<'_>,
    plan: &Plan,
    targets: &mut [Target],
    output: Output,
) -> Result<(), Failure> {
    let d = fit.readout.d_model();
    let sums = || {
        (
            Moments::new(d, fit.readout.weight().device()),
            CrossMoments::new(d, d, fit.readout.weight().device()),
        )
    };
    let mut all: Vec<_> = targets.iter().map(|_| sums()).collect();
    stream(fit, MOMENT_TOKENS, output, &mut |states| {
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
            let map = Regression::new(&target.name, x, pairs)?.solve(&ridge(args, Horizon::NEXT))?;
            target.init = Some(ClosedForm::Shared(map));
        }
    }
    Ok(())
}
