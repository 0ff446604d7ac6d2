use std::{collections::BTreeMap, path::Path};

use layerscope_lenses::{
    Affine, Error, LayerIndex, Lens, LogitLens, Norm, NormKind, Precision, Readout, Teacher, TunedLens,
    Unembed,
};
use tch::{Device, Kind, Tensor};

use super::{
    align::{Change, alignment},
    *,
};
use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::{Model, Weights},
    run::MetricRow,
    score::Resamples,
    text::{Segment, Window},
    transfer::spearman,
};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const MODELS: [&str; 7] = [
    "families/gpt2",
    "families/llama",
    "families/gpt-neox",
    "families/gemma2",
    "families/opt",
    "gpt2-alice-8l",
    "llama-alice-6l",
];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn readout(model: &Model) -> Readout {
    tch::set_num_threads(1); // the models are too small to share
    Readout::new(model.unembed(), model.spec().vocab, Precision::Exact, 1).unwrap()
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The tuned lens of `fixtures/causal/make.py`, the same map at every layer.
fn tuned(d: usize, n_layers: usize) -> TunedLens {
    let i = Tensor::arange(d as i64, (Kind::Double, Device::Cpu));
    let weight: Tensor = ((&i + 1.0).outer(&(&i + 2.0)) * 0.37).cos() * (0.4 / (d as f64).sqrt());
    let bias: Tensor = i.sin() * 0.1;
    let map = Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float)).unwrap();
    TunedLens::new("tuned", (0..=n_layers).map(|l| (LayerIndex(l), map.copy())).collect())
}

/// Formulas and models against torch, scipy and transformers with hooks: `fixtures/causal/make.py`, which is in f64.
#[test]
fn energies_effects_and_alignments_are_those_of_the_reference() {
    let golden = Weights::open_file(&fixture("causal/golden.safetensors"), Kind::Double).unwrap();
    let take = |name: &str| golden.take_any(name).unwrap();
    let list = |name: &str| Vec::<f64>::try_from(take(name).contiguous().view([-1])).unwrap();
    let pairs: Vec<(f64, f64)> = list("spearman.x").into_iter().zip(list("spearman.y")).collect();
    assert!((spearman(&pairs) - list("spearman.value")[0]).abs() < 1e-12);
    let ids = Tensor::from_slice(&[3_i64, 14, 15, 9, 26, 5, 7, 1, 40, 22, 13, 2]).view([2, 6]);
    for folder in MODELS {
        let _no_grad = tch::no_grad_guard();
        let name = folder.trim_start_matches("families/");
        let of = |what: &str| take(&format!("{name}.{what}"));
        let model = model(folder);
        let (readout, n_layers, d) = (readout(&model), model.spec().n_layers, model.spec().d_model);
        let points: Vec<HookPoint> =
            (0..=n_layers).map(|l| HookPoint::Block(l, BlockHook::ResidPre)).collect();
        let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
        model.forward(&ids, &mut capture).unwrap();
        let states: Vec<Tensor> = points
            .iter()
            .map(|p| capture.get(*p).unwrap().to_kind(Kind::Float).view([12, d as i64]))
            .collect();
        let teacher = Teacher::of(&readout, &states[n_layers]).unwrap();
        let lenses: [Box<dyn Lens>; 2] = [Box::new(LogitLens), Box::new(tuned(d, n_layers))];
        let directions = of("directions");
        let donors = Tensor::from_slice(&(0..12).map(|i| (i + 5) % 12).collect::<Vec<i64>>());
        let mut worst: f64 = 0.0;
        for removal in Removal::ALL {
            let stand_in = |layer: usize| match removal {
                Removal::Mean => of("mean").get(layer as i64),
                Removal::Zero => Tensor::zeros([d as i64], CPU),
                Removal::Resample => states[layer].index_select(0, &donors),
            };
            let removed = remove(&states[1], &directions, &stand_in(1)).unwrap();
            assert!(far(&removed, &of(&format!("{removal}.removed"))) < 1e-4, "{name} {removal}");
            let (effects, energies) = (of(&format!("{removal}.effect")), of(&format!("{removal}.energy")));
            for (layer, rows) in states.iter().enumerate() {
                let own: Vec<Energy<'_>> = lenses
                    .iter()
                    .map(|lens| {
                        let of = (lens.as_ref(), LayerIndex(layer));
                        Energy::new(&readout, of, rows, &stand_in(layer)).unwrap()
                    })
                    .collect();
                for i in 0..3 {
                    let direction = directions.narrow(0, i, 1);
                    let apart = remove(rows, &direction, &stand_in(layer)).unwrap();
                    let n = readout.normalize(&replay(&model, &ids, layer, &apart).unwrap()).unwrap();
                    let lse = readout.sweep(&n, layerscope_lenses::Ask::default()).unwrap().lse;
                    let effect = mean(&teacher.kl(&readout, &n, &lse).unwrap());
                    worst = worst.max((effect - effects.double_value(&[layer as i64, i])).abs());
                    for (place, energy) in own.iter().enumerate() {
                        let energy = mean(&energy.rows(&direction).unwrap());
                        let want = energies.double_value(&[place as i64, layer as i64, i]);
                        worst = worst.max((energy - want).abs());
                    }
                }
            }
        }
        assert!(worst < 1e-5, "{name}: {worst:e}");
        for (layer, own) in states.iter().enumerate() {
            let treated = remove(own, &directions, &own.index_select(0, &donors)).unwrap();
            let after = readout.normalize(&replay(&model, &ids, layer, &treated).unwrap()).unwrap();
            let read: Vec<[Tensor; 2]> = lenses
                .iter()
                .map(|lens| {
                    [own, &treated]
                        .map(|h| readout.normalize(&lens.transform(LayerIndex(layer), h).unwrap()).unwrap())
                })
                .collect();
            let stimuli: Vec<Change<'_>> =
                read.iter().map(|[before, after]| Change { before, after }).collect();
            let response = Change { before: &teacher.n, after: &after };
            // Every stimulus with the response of its own row twice, so that both lists can be checked.
            let same: Vec<i64> = (0..12).collect();
            let found = alignment(&readout, response, &stimuli, &same).unwrap();
            for (place, lists) in found.iter().enumerate() {
                for (row, (own, other)) in lists[0].iter().zip(&lists[1]).enumerate() {
                    let want = of("alignment").double_value(&[place as i64, layer as i64, row as i64]);
                    assert!((own - want).abs() < 1e-4, "{name}, layer {layer}: {own} {want}");
                    assert!((own - other).abs() < 1e-6);
                }
            }
        }
    }
}

/// A made-up head, states of uneven variance about a mean that is not zero, and a tuned lens.
struct Scene {
    readout: Readout,
    lens: TunedLens,
    states: Tensor,
    mean: Tensor,
    covariance: Tensor,
}

fn scene(kind: NormKind) -> Scene {
    tch::set_num_threads(1);
    tch::manual_seed(5);
    let (rows, d, vocab) = (300, 10, 60);
    let bias = (kind == NormKind::Layer).then(|| Tensor::randn([d], CPU));
    let norm = Norm::new(kind, Some(Tensor::rand([d], CPU) + 0.5), bias, 1e-5);
    let unembed = Unembed::new(norm, Tensor::randn([vocab, d], CPU) * 0.6, None, None).unwrap();
    let readout = Readout::new(&unembed, vocab as usize, Precision::Exact, 1).unwrap();
    let map = Affine::new(Tensor::randn([d, d], CPU) * 0.2, Tensor::randn([d], CPU)).unwrap();
    let lens = TunedLens::new("tuned", BTreeMap::from([(LayerIndex(2), map)]));
    let spread = Tensor::linspace(3.0, 0.3, d, CPU);
    let states = Tensor::randn([rows, d], CPU) * spread + Tensor::randn([d], CPU);
    let wide = states.to_kind(Kind::Double);
    let mean = wide.mean_dim([0_i64].as_slice(), false, Kind::Double);
    let centred = wide - &mean;
    let covariance = centred.tr().matmul(&centred) / rows as f64;
    Scene { readout, lens, states, mean, covariance }
}

impl Scene {
    fn energy(&self) -> Energy<'_> {
        Energy::new(&self.readout, (&self.lens, LayerIndex(2)), &self.states, &self.mean).unwrap()
    }
}

fn unit(seed: u64, d: usize) -> Vec<f64> {
    Vec::try_from(random(1, d, 0, seed).unwrap().view([-1])).unwrap()
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    for kind in [NormKind::Layer, NormKind::Rms] {
        let scene = scene(kind);
        let energy = scene.energy();
        let v = unit(3, 10);
        let (value, gradient) = energy.gradient(&v).unwrap();
        assert!((value - energy.mean(&v).unwrap()).abs() < 1e-6);
        for i in 0..10 {
            let moved = |step: f64| {
                let mut v = v.clone();
                v[i] += step;
                energy.mean(&v).unwrap()
            };
            let want = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            assert!((gradient[i] - want).abs() < 2e-3 * want.abs().max(1.0), "{i}: {} {want}", gradient[i]);
        }
    }
}

#[test]
fn without_all_directions_every_state_is_the_mean() {
    let scene = scene(NormKind::Layer);
    let all = random(10, 10, 0, 7).unwrap();
    let removed = remove(&scene.states, &all, &scene.mean).unwrap();
    assert!(far(&removed, &scene.mean.expand_as(&scene.states)) < 1e-5);
    // So the energy is the divergence from what the lens says of the mean.
    let dense = |h: &Tensor| {
        let x = scene.lens.transform(LayerIndex(2), h).unwrap();
        scene.readout.unembed().logits(&x).unwrap().log_softmax(-1, Kind::Double)
    };
    let (p, q) = (dense(&scene.states), dense(&scene.mean.to_kind(Kind::Float).unsqueeze(0)));
    let want = (p.exp() * (&p - &q)).sum_dim_intlist([-1_i64].as_slice(), false, Kind::Double);
    let got = Tensor::from_slice(&scene.energy().rows(&all).unwrap());
    assert!(far(&got, &want) < 1e-5 * want.max().double_value(&[]));
}

#[test]
fn a_basis_is_orthonormal_sorted_and_better_than_others() {
    for kind in [NormKind::Layer, NormKind::Rms] {
        let scene = scene(kind);
        let energy = scene.energy();
        for k in [4, 10] {
            let basis = extract(&energy, &scene.covariance, k, || Ok(())).unwrap();
            let gram = basis.vectors.matmul(&basis.vectors.tr());
            assert!(far(&gram, &Tensor::eye(k as i64, (Kind::Double, Device::Cpu))) < 1e-10);
            assert!(basis.energies.is_sorted_by(|a, b| a >= b), "{:?}", basis.energies);
            assert!(basis.unfinished == 0 && basis.evaluations < 100 * k);
            let first = Vec::<f64>::try_from(basis.vectors.get(0)).unwrap();
            assert!((energy.mean(&first).unwrap() - basis.energies[0]).abs() < 1e-5);
            let axis = principal(&scene.covariance, 1).unwrap();
            let others = (0..50).map(|seed| unit(seed, 10)).chain([Vec::try_from(axis.get(0)).unwrap()]);
            for other in others {
                assert!(energy.mean(&other).unwrap() <= basis.energies[0] + 1e-5);
            }
        }
        assert!(matches!(
            extract(&energy, &scene.covariance, 11, || Ok(())),
            Err(CausalError::Directions { k: 11, d: 10 })
        ));
        let ended = extract(&energy, &scene.covariance, 2, || Err(CausalError::Interrupted));
        assert!(matches!(ended, Err(CausalError::Interrupted)));
    }
}

/// Says one thing only: how far the state lies along a direction.
struct OneDirection {
    reads: Tensor,
    says: Tensor,
    base: Tensor,
}

impl Lens for OneDirection {
    fn name(&self) -> &'static str {
        "one"
    }

    fn transform(&self, _: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        Ok(resid.matmul(&self.reads).unsqueeze(-1) * &self.says + &self.base)
    }

    fn reads(&self, _: LayerIndex) -> bool {
        true
    }
}

#[test]
fn the_one_direction_that_a_lens_reads_is_found() {
    // States of even variance: a direction that varies more may do more through its part along the one that is read.
    let mut scene = scene(NormKind::Rms);
    scene.states = Tensor::randn([3000, 10], CPU);
    scene.mean = Tensor::zeros([10], CPU);
    let direction = unit(11, 10);
    let reads = Tensor::from_slice(&direction).to_kind(Kind::Float);
    let lens = OneDirection { reads, says: Tensor::randn([10], CPU), base: Tensor::randn([10], CPU) * 2.0 };
    let energy = Energy::new(&scene.readout, (&lens, LayerIndex(0)), &scene.states, &scene.mean).unwrap();
    let basis = extract(&energy, &scene.covariance, 3, || Ok(())).unwrap();
    let cosine: f64 =
        direction.iter().zip(Vec::<f64>::try_from(basis.vectors.get(0)).unwrap()).map(|(a, b)| a * b).sum();
    assert!(cosine.abs() > 0.99, "{cosine}");
    assert!(basis.energies[1] < 1e-2 * basis.energies[0], "{:?}", basis.energies);
}

/// Two documents of two windows each, and one more.
fn windows(vocab: u32) -> Vec<Window> {
    let window = |doc_id: u64, doc_pos: u32, len: u32| Window {
        ids: (0..len).map(|i| (doc_id as u32 * 17 + (doc_pos + i) * 7 + 1) % vocab).collect(),
        segments: vec![Segment { doc_id, doc_pos, doc_len: 12, offset: 0, len }],
    };
    vec![window(0, 0, 6), window(0, 6, 6), window(1, 0, 6), window(1, 6, 3), window(2, 0, 1)]
}

fn model(name: &str) -> Model {
    Model::load(&fixture(name), Kind::Float, Device::Cpu, |_, _| ()).unwrap()
}

#[test]
fn a_replay_from_any_layer_is_the_model() {
    for folder in &MODELS[..5] {
        let model = model(folder);
        let windows = windows(61);
        let some: Vec<&Window> = windows[..3].iter().collect();
        let layers: Vec<HookPoint> =
            (0..=model.spec().n_layers).map(|l| HookPoint::Block(l, BlockHook::ResidPre)).collect();
        let states = crate::states::States::of(&model, &layers, &some).unwrap();
        let ids = Tensor::from_slice(&states.ids).view([3, -1]);
        for (layer, rows) in states.layers.iter().enumerate() {
            assert!(replay(&model, &ids, layer, rows).unwrap().equal(&states.last), "{folder} {layer}");
        }
    }
}

/// Everything from text to rows on a tiny model, with batches of `batch` tokens.
fn measured(
    model: &Model,
    (lenses, kinds): (&[Box<dyn Lens>], &[String]),
    (batch, keep_first): (usize, bool),
) -> Vec<MetricRow> {
    let readout = readout(model);
    let layers: Vec<usize> = (0..=model.spec().n_layers).collect();
    let windows = windows(61);
    let (first, second): (Vec<&Window>, Vec<&Window>) =
        windows.iter().partition(|w| w.segments[0].doc_id == 0);
    let found =
        grounds(model, &layers, &first, Sample { positions: 9, batch, seed: 4, keep_first }, |_| Ok(()))
            .unwrap();
    let plan = |ground| Plan::new(&readout, lenses, ground, (Removal::Resample, 3), || Ok(())).unwrap();
    let plans: Vec<Plan> = found.into_iter().map(plan).collect();
    let resamples = Resamples::new(0, 50);
    let mut measurement =
        Measurement::new(&readout, (lenses, kinds), &plans, Removal::Resample, resamples).unwrap();
    for places in crate::text::batches(&second, batch) {
        let some: Vec<&Window> = places.iter().map(|i| second[*i]).collect();
        measurement.add(model, &some, None, || Ok(())).unwrap();
    }
    measurement.finish()
}

#[test]
fn at_the_last_layer_the_logit_lens_is_the_model_and_an_identity_is_the_logit_lens() {
    for folder in ["families/gpt2", "families/gemma2"] {
        let model = model(folder);
        let (d, n_layers) = (model.spec().d_model, model.spec().n_layers);
        let maps = (0..n_layers).map(|l| (LayerIndex(l), Affine::identity(d, Device::Cpu)));
        let identity = TunedLens::new("id@", maps.collect());
        let lenses: Vec<Box<dyn Lens>> = vec![Box::new(LogitLens), Box::new(identity)];
        let kinds = ["logit".to_owned(), "tuned".to_owned()];
        let rows = measured(&model, (&lenses, &kinds), (6, false));
        let find = |subject: &str, metric: &str, layer: usize| {
            let own = |r: &&MetricRow| r.subject == subject && r.metric == metric && r.layer == layer as i32;
            rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}"))
        };
        for direction in ["logit.cbe-1", "logit.cbe-3", "pca-2", "random-1", "pca"] {
            let energy = find(&format!("logit@{direction}"), "energy", n_layers);
            let effect = find(&format!("model@{direction}"), "effect", n_layers);
            assert!(energy.estimate > 1e-4);
            assert_eq!((energy.estimate, energy.lower), (effect.estimate, effect.lower));
            assert_eq!((energy.n, energy.n_clusters), (10, 2));
            assert_eq!(split_direction(&energy.subject), Some(("logit", direction)));
        }
        assert!((find("logit", "spearman", n_layers).estimate - 1.0).abs() < 1e-12);
        assert!((find("logit", "spearman_all", n_layers).estimate - 1.0).abs() < 1e-12);
        assert!((find("logit", "loglog_slope", n_layers).estimate - 1.0).abs() < 1e-9);
        assert!((find("logit", "alignment", n_layers).estimate - 1.0).abs() < 1e-6);
        assert!(find("logit", "alignment_shuffled", n_layers).estimate < 0.9);
        // A window of one token has nobody to change places with.
        assert_eq!(find("logit", "alignment_shuffled", n_layers).n, 9);
        let same = [("alignment", ""), ("spearman_all", ""), ("energy", "@pca-1"), ("energy", "@random")];
        for layer in 0..n_layers {
            for (metric, direction) in same {
                let [logit, id] = ["logit", "id@"].map(|s| find(&format!("{s}{direction}"), metric, layer));
                assert!((logit.estimate - id.estimate).abs() < 1e-6, "{metric} {layer}");
            }
            assert!(find("id@", "alignment_gain", layer).estimate.abs() < 1e-6);
            let [logit, id] = ["logit@logit.cbe-1", "id@@id_.cbe-1"].map(|s| find(s, "energy", layer));
            assert!((logit.estimate / id.estimate - 1.0).abs() < 1e-3, "{} {}", logit.estimate, id.estimate);
        }
        assert!(!rows.iter().any(|r| r.subject == "id@" && r.layer == n_layers as i32));
    }
}

#[test]
fn batches_change_nothing() {
    let model = model("families/llama");
    let lenses: Vec<Box<dyn Lens>> = vec![Box::new(LogitLens)];
    let kinds = ["logit".to_owned()];
    let (a, b) = ([1, 100].map(|batch| measured(&model, (&lenses, &kinds), (batch, false)))).into();
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.subject, &a.metric, a.layer, a.n), (&b.subject, &b.metric, b.layer, b.n));
        // Directions come from f32 sums in another order, and a rank may flip.
        let close = if a.metric.starts_with("spearman") { 0.7 } else { 2e-3 * a.estimate.abs().max(1.0) };
        assert!((a.estimate - b.estimate).abs() < close, "{a:?} {b:?}");
    }
}

/// With nothing changed at first positions, only what comes later counts.
#[test]
fn first_positions_can_stay_as_they_are() {
    let model = model("families/gpt2");
    let lenses: Vec<Box<dyn Lens>> = vec![Box::new(LogitLens)];
    let kinds = ["logit".to_owned()];
    let rows = measured(&model, (&lenses, &kinds), (6, true));
    let of = |metric: &str| rows.iter().find(|r| r.metric == metric && r.layer == 1).unwrap();
    // Documents 1 and 2: 10 positions, 3 of them first; of the other 7 all have partners, and 5 or 6 one that moves.
    assert_eq!((of("energy").n, of("alignment").n), (10, 7));
    assert!((5..7).contains(&of("alignment_shuffled").n), "{:?}", of("alignment_shuffled"));
    // The mean is that of the other rows.
    let windows = windows(61);
    let first = [&windows[0], &windows[1]];
    let mean = |keep_first: bool| {
        let sample = Sample { positions: 100, batch: 6, seed: 4, keep_first };
        let found = grounds(&model, &[1], &first, sample, |_| Ok(())).unwrap().remove(0);
        let own = found.states.mean_dim([0_i64].as_slice(), false, Kind::Double);
        assert!(far(&own, &found.mean) < 1e-6);
        (found.states.size()[0], found.mean)
    };
    let (all, rest) = (mean(false), mean(true));
    assert_eq!((all.0, rest.0), (12, 10));
    assert!(far(&all.1, &rest.1) > 1e-3);
}

#[test]
fn one_position_is_too_few() {
    let model = model("families/gpt2");
    let windows = windows(61);
    let one = [&windows[4]];
    let sample = Sample { positions: 9, batch: 6, seed: 4, keep_first: false };
    let failed = grounds(&model, &[0], &one, sample, |_| Ok(())).unwrap_err();
    assert_eq!(failed.to_string(), "1 positions to find directions on; at least 2 are needed");
}
