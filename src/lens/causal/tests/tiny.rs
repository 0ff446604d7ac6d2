//! From text to rows, on tiny random models.

use layerscope_lenses::{Affine, LayerIndex, Lens, LogitLens, TunedLens};
use tch::{Device, Kind, Tensor};

use super::{super::*, MODELS, far, model, readout};
use crate::{
    hook::{BlockHook, HookPoint},
    model::Model,
    results::run::{MetricRow, Parts, RowKind},
    results::statistics::Intervals,
    sources::text::{Segment, Window},
    watch::Underway,
};

/// Two documents of two windows each, and one more.
fn windows(vocab: u32) -> Vec<Window> {
    let window = |doc_id: u64, doc_pos: u32, len: u32| Window {
        ids: (0..len).map(|i| (doc_id as u32 * 17 + (doc_pos + i) * 7 + 1) % vocab).collect(),
        segments: vec![Segment { doc_id, doc_pos, doc_len: 12, offset: 0, len, ..Segment::default() }],
    };
    vec![window(0, 0, 6), window(0, 6, 6), window(1, 0, 6), window(1, 6, 3), window(2, 0, 1)]
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
    (lenses, kinds): (&[Box<dyn Lens>], &[RowKind]),
    (batch, keep_first): (usize, bool),
) -> Vec<MetricRow> {
    let readout = readout(model);
    let layers: Vec<usize> = (0..=model.spec().n_layers).collect();
    let windows = windows(61);
    let (first, second): (Vec<&Window>, Vec<&Window>) =
        windows.iter().partition(|w| w.segments[0].doc_id == 0);
    let found = grounds(
        model,
        &layers,
        &first,
        Sample { positions: 9, batch, seed: 4, keep_first },
        &Underway::unwatched(),
    )
    .unwrap();
    let plan =
        |ground| Plan::new(&readout, lenses, ground, (Removal::Resample, 3), &Underway::unwatched()).unwrap();
    let plans: Vec<Plan> = found.into_iter().map(plan).collect();
    let intervals = Intervals::bootstrap(0, 50);
    let mut measurement =
        Measurement::new(&readout, (lenses, kinds), &plans, Removal::Resample, intervals).unwrap();
    for some in crate::sources::text::batches(&second, batch) {
        measurement.add(model, &some.windows, None, &Underway::unwatched()).unwrap();
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
        let kinds = [RowKind::Logit, RowKind::Tuned];
        let rows = measured(&model, (&lenses, &kinds), (6, false));
        let find = |subject: &str, metric: &str, layer: usize| {
            let own = |r: &&MetricRow| r.subject == subject && r.metric == metric && r.layer == layer as i32;
            rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}"))
        };
        for direction in ["logit.cbe-1", "logit.cbe-3", "pca-2", "random-1", "pca"] {
            let energy = find(&format!("logit@{direction}"), "energy", n_layers);
            let effect = find(&format!("model@{direction}"), "effect", n_layers);
            assert!(energy.estimate > 1e-4);
            assert_eq!(
                (energy.estimate, energy.lower, &energy.reason),
                (effect.estimate, effect.lower, &effect.reason)
            );
            assert_eq!((energy.n, energy.n_clusters), (10, 2));
            let Parts::Without { of, direction: parted } = energy.subject.parts() else {
                panic!("{energy:?}")
            };
            assert_eq!((of.as_str(), parted.to_string().as_str()), ("logit", direction));
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
    let kinds = [RowKind::Logit];
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
    let kinds = [RowKind::Logit];
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
        let found = grounds(&model, &[1], &first, sample, &Underway::unwatched()).unwrap().remove(0);
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
    let failed = grounds(&model, &[0], &one, sample, &Underway::unwatched()).unwrap_err();
    assert_eq!(failed.to_string(), "1 positions to find directions on; at least 2 are needed");
}
