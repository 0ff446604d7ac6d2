//! What differs between kinds of lenses: where they begin, what is kept of them, what is printed.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use layerscope::{
    artifact::{LensConfig, LensKind, ModelRef, unembed_sha256},
    fit::{ClosedForm, Fit, FitError, FitLog, Target},
    hook::{BlockHook, HookPoint},
    lenses::{
        Affine, CrossMoments, FutureFit, Horizon, LayerIndex, LinearFit, Moments, Readout, Regression, Ridge,
        Rows, Rung, Translators,
        fit::{Fitter, Optimizer, Recipe},
    },
    run::Manifest,
    states::States,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{
    super::{exit::Failure, interrupt::on_interrupt, output::Output, source::Source, table::Table},
    fit::{FitArgs, Init, Kind_, Plan, block_hook},
};

/// Tokens whose moments a tuned lens's closed form, or a shared lens's features, are made of.
const MOMENT_TOKENS: usize = 1 << 17;
/// The control of the shared lens: one affine map over states that were rotated, every layer differently.
pub(super) const ROTATED: &str = "rotated-affine";

/// The hook of `--site`.
pub(super) fn site(name: &str) -> Result<BlockHook, String> {
    block_hook(name).ok_or_else(|| {
        format!("--site {name}: there are resid_pre, resid_mid, resid_post, attn_out and mlp_out")
    })
}

/// The rungs of `--rung`.
pub(super) fn rungs(names: &[String]) -> Result<Vec<Rung>, String> {
    let mut rungs = Vec::new();
    for name in names {
        let asked = match name.as_str() {
            "all" => Rung::SHARED.to_vec(),
            name => vec![name.parse::<Rung>().map_err(|e| format!("--rung: {e}"))?],
        };
        for rung in asked {
            if !rungs.contains(&rung) {
                rungs.push(rung);
            }
        }
    }
    Ok(rungs)
}

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
                    let moments = linear_moments(fit, plan, args, MOMENT_TOKENS, output)?;
                    Some(closed_form(&moments, plan, args, fit)?)
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
            let moments = linear_moments(fit, plan, args, usize::MAX, output)?;
            let init = Some(closed_form(&moments, plan, args, fit)?);
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
        Kind_::Future => future(args, fit, plan, resumed, if args.refine { steps()? } else { 0 }, output),
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
    let (d, device) = (fit.readout.d_model(), fit.model.device());
    let translators = Translators::identity(rung, features, d, device);
    let fitter = Fitter::new(recipe, translators).map_err(Failure::usage)?;
    Ok(Target { name, horizon, fitter, init: init.map(ClosedForm::Layers) })
}

/// Streams the states of the first `tokens` tokens in fitting order to `add`.
fn stream(
    fit: &Fit<'_>,
    tokens: usize,
    output: Output,
    add: &mut dyn FnMut(&States) -> Result<(), layerscope::lenses::Error>,
) -> Result<(), Failure> {
    let mut seen = 0;
    let few = |i: &&usize| {
        let take = seen < tokens;
        seen += fit.windows[**i].ids.len();
        take
    };
    let windows: Vec<usize> = fit.split.train.iter().take_while(few).copied().collect();
    let all: usize = windows.iter().map(|i| fit.windows[*i].ids.len()).sum();
    let stop = on_interrupt()?;
    let bar = output.bar("closed form", "tokens", Some(all as u64));
    let ended = fit.each_batch(&windows, &mut |states| {
        if stop.load(Ordering::Relaxed) {
            return Err(FitError::Interrupted);
        }
        bar.inc(states.rows() as u64);
        add(states).map_err(|source| FitError::Lens { target: "closed form".into(), step: 0, source })
    });
    bar.finish_and_clear();
    ended.map_err(|e| match e {
        FitError::Interrupted => Failure::interrupted(e),
        other => other.into(),
    })
}

/// The layer that translators map to: the last, or `--target`.
fn last(args: &FitArgs, fit: &Fit<'_>) -> LayerIndex {
    LayerIndex(args.target.unwrap_or(fit.model.spec().n_layers))
}

/// Moments of every layer with the one that translators map to.
fn linear_moments(
    fit: &Fit<'_>,
    plan: &Plan,
    args: &FitArgs,
    tokens: usize,
    output: Output,
) -> Result<LinearFit, Failure> {
    let to = last(args, fit);
    let points: Vec<HookPoint> =
        fit.points.iter().copied().chain([HookPoint::Block(to.0, BlockHook::ResidPre)]).collect();
    let fit = Fit { points: &points, ..*fit };
    let layers: Vec<LayerIndex> = plan.layers.iter().copied().chain([to]).collect();
    let mut moments = LinearFit::new(&plan.layers, &[to], fit.readout.d_model(), fit.model.device());
    stream(&fit, tokens, output, &mut |states| {
        let states = states.layers.iter().map(Tensor::shallow_clone);
        moments.add(&layers.iter().copied().zip(states).collect::<Vec<_>>())
    })?;
    Ok(moments)
}

fn ridge(args: &FitArgs, horizon: Horizon) -> Ridge {
    Ridge { lambda: args.ridge, ..Ridge::for_horizon(horizon) }
}

/// The regression of the last layer on every layer.
fn closed_form(
    moments: &LinearFit,
    plan: &Plan,
    args: &FitArgs,
    fit: &Fit<'_>,
) -> Result<Vec<Affine>, Failure> {
    let lens = moments.finish("closed form", last(args, fit), &ridge(args, Horizon::NEXT))?;
    Ok(plan.layers.iter().filter_map(|l| lens.translators().get(l).map(Affine::copy)).collect())
}

fn future(
    args: &FitArgs,
    fit: &Fit<'_>,
    plan: &Plan,
    resumed: bool,
    steps: usize,
    output: Output,
) -> Result<Vec<Target>, Failure> {
    let mut moments = FutureFit::new(&plan.layers, fit.readout.d_model(), args.horizons, fit.model.device());
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
    let moments = linear_moments(fit, plan, args, MOMENT_TOKENS, output)?;
    let of = |layer: &LayerIndex| moments.moments(*layer).map_err(Failure::from);
    let end = of(&last(args, fit))?;
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
    let sums = || (Moments::new(d, fit.model.device()), CrossMoments::new(d, d, fit.model.device()));
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

/// `φ(h) = μ_L + (σ_L / σ)(h - μ)` with `σ²` the mean variance of a dimension.
fn standardise(own: &Moments, end: &Moments) -> Result<Affine, Failure> {
    let spread = |m: &Moments| Ok::<_, Failure>(m.covariance()?.f_trace()?.double_value(&[]).sqrt());
    let ratio = spread(end)? / spread(own)?;
    let d = own.d() as i64;
    let weight = Tensor::f_eye(d, (Kind::Double, own.mean()?.device()))? * (ratio - 1.0);
    let bias = end.mean()?.f_sub(&(own.mean()? * ratio))?;
    Ok(Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))?)
}

/// `φ(h) = R (h - μ) + μ` with a rotation drawn uniformly from (seed, layer): the QR factor of a Gaussian matrix, signs
/// fixed (Mezzadri 2007).
fn rotate(own: &Moments, seed: u64, layer: LayerIndex) -> Result<Affine, Failure> {
    let d = own.d() as i64;
    tch::manual_seed((seed as i64).wrapping_mul(1_000_003) ^ (layer.0 as i64 + 1));
    let gaussian = Tensor::f_randn([d, d], (Kind::Double, Device::Cpu))?;
    let (q, r) = Tensor::f_linalg_qr(&gaussian, "reduced")?;
    let rotation = q.f_mul(&r.f_diag(0)?.f_sign()?)?;
    let mean = own.mean()?;
    let rotation = rotation.to_device(mean.device());
    let bias = mean.f_sub(&rotation.f_mv(&mean)?)?;
    let weight = rotation.f_sub(&Tensor::f_eye(d, (Kind::Double, mean.device()))?)?;
    Ok(Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))?)
}

/// The parameters that are kept: the best held-out translators; of closed forms, themselves.
pub(super) fn tensors(
    args: &FitArgs,
    plan: &Plan,
    targets: &[Target],
) -> Result<BTreeMap<String, Tensor>, Failure> {
    let mut tensors = BTreeMap::new();
    for target in targets {
        let closed = target.fitter.recipe().steps == 0;
        for (place, layer) in plan.layers.iter().enumerate() {
            let map = if closed {
                target.fitter.translators().whole(place)?
            } else {
                target.fitter.best()[place].1.copy()
            };
            let prefix = match args.kind {
                Kind_::Tuned | Kind_::Linear => format!("layer.{layer}"),
                Kind_::Future => format!("layer.{layer}.horizon.{}", target.horizon),
                Kind_::Shared => format!("{}.layer.{layer}", target.name),
            };
            tensors.insert(format!("{prefix}.weight"), map.weight);
            tensors.insert(format!("{prefix}.bias"), map.bias);
        }
    }
    Ok(tensors)
}

/// What `config.json` says.
pub(super) fn lens_config(
    args: &FitArgs,
    source: &Source,
    plan: &Plan,
    readout: &Readout,
    manifest: &Manifest,
) -> Result<LensConfig, Failure> {
    let spec = &source.session.spec;
    let rungs = plan.rungs.iter().map(ToString::to_string).chain([ROTATED.to_owned()]);
    let mut details = manifest.config.clone();
    details["rungs"] = if args.kind == Kind_::Shared { rungs.collect() } else { json!([]) };
    Ok(LensConfig {
        kind: match args.kind {
            Kind_::Tuned => LensKind::Tuned,
            Kind_::Shared => LensKind::Shared,
            Kind_::Linear => LensKind::Linear,
            Kind_::Future => LensKind::Future,
        },
        site: args.site.clone(),
        model: ModelRef {
            name: source.session.name(),
            sha256: manifest.model.as_ref().map(|m| m.sha256.clone()),
        },
        d_model: spec.d_model,
        n_layers: spec.n_layers,
        unembed_sha256: Some(unembed_sha256(readout.unembed())?),
        tokenizer_sha256: manifest.tokenizer_sha256.clone(),
        layers: plan.layers.iter().map(|l| l.0).collect(),
        horizons: if args.kind == Kind_::Future { (1..=args.horizons).collect() } else { vec![1] },
        details,
    })
}

/// Held-out losses per layer: of what every fit begins with, the identity (the logit lens), and of every target.
pub(super) fn table(args: &FitArgs, plan: &Plan, log: &FitLog) -> (String, Value) {
    let mut names: Vec<&str> = Vec::new();
    for row in log.rows() {
        if !names.contains(&row.target.as_str()) {
            names.push(&row.target);
        }
    }
    // A closed form is kept as it is; of a fit, the best.
    let closed = args.kind == Kind_::Linear || (args.kind == Kind_::Future && !args.refine);
    let kept = |name: &str, layer: usize| {
        let mut losses =
            log.rows().iter().filter(|r| r.target == name && r.layer == layer).filter_map(|r| r.held_out);
        if closed { losses.next_back().unwrap_or(f64::NAN) } else { losses.fold(f64::INFINITY, f64::min) }
    };
    let identity = |layer: usize| {
        let first = log.rows().iter().find(|r| r.layer == layer && r.horizon == 1);
        first.and_then(|r| r.held_out).map_or_else(String::new, |loss| format!("{loss:.4}"))
    };
    let mut table = Table::new(["layer", "identity"].into_iter().chain(names.iter().copied()));
    for (place, layer) in plan.layers.iter().enumerate() {
        let cells = names.iter().map(|name| format!("{:.4}", kept(name, place)));
        table.row([layer.to_string(), identity(place)].into_iter().chain(cells));
    }
    let loss = format!("{:?}", args.loss).to_lowercase();
    let text = format!("held-out {loss}, nats\n{table}").trim_end().to_owned();
    let summary: BTreeMap<&str, Vec<f64>> =
        names.iter().map(|name| (*name, (0..plan.layers.len()).map(|l| kept(name, l)).collect())).collect();
    (text, json!(summary))
}
