use std::path::Path;

use layerscope_lenses::{Precision, Readout};
use tch::{Device, Kind, Tensor};

use super::{
    Recipe, Sentence, Setting, SteerError, Sweep,
    control::rank,
    direction::Direction,
    over_sentences,
    pairs::{between, window},
    response::{pearson, slope},
};
use crate::{
    model::{Model, Weights},
    results::{
        run::{MetricRow, RowKind},
        statistics::Intervals,
    },
    sources::text::Window,
    watch::{Underway, testing::Counter},
};

/// A tiny model in f64 and what transformers computed of it (`fixtures/steer/make.py`).
struct Golden {
    family: &'static str,
    model: Model,
    file: Weights,
}

impl Golden {
    fn of(family: &'static str) -> Self {
        Self::in_kind(family, Kind::Double)
    }

    fn in_kind(family: &'static str, kind: Kind) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let model =
            Model::load(&fixtures.join("families").join(family), kind, Device::Cpu, |_, _| ()).unwrap();
        let file = Weights::open_file(&fixtures.join("steer/reference.safetensors"), Kind::Double).unwrap();
        Self { family, model, file }
    }

    fn take(&self, name: &str) -> Tensor {
        self.file.take_any(&format!("{}.{name}", self.family)).unwrap()
    }

    fn layers(&self) -> Vec<usize> {
        (0..=self.model.spec().n_layers).collect()
    }

    fn close(&self, name: &str, found: &Tensor, tolerance: f64) {
        let want = self.take(name);
        let error = (found - &want).abs().max().double_value(&[]);
        let scale = want.abs().max().double_value(&[]);
        assert!(error <= tolerance * scale, "{} {name}: {error:e} of {scale}", self.family);
    }
}

fn tokens(start: u32, n: u32) -> Vec<u32> {
    (0..n).map(|i| (7 * i + 11 * start + 3) % 61).collect()
}

const FAMILIES: [&str; 5] = ["gpt2", "llama", "gpt-neox", "gemma2", "bloom"];

#[test]
fn pushes_are_those_of_transformers() {
    for golden in FAMILIES.map(Golden::of) {
        let (layers, ids) = (golden.layers(), tokens(9, 8));
        let root = (golden.model.spec().d_model as f64).sqrt();
        let lengths = vec![root; layers.len()]; // so that units are the vectors themselves
        let sentence = Sentence { name: "s", ids: &ids, layers: &layers, lengths: &lengths };
        let vectors = golden.take("vectors");
        let learnt = sentence.measure(&golden.model, &vectors).unwrap();
        golden.close("ce", &Tensor::from_slice(&learnt.ce), 1e-9);
        let said = golden.take("said").eq_tensor(&golden.take("ids").narrow(0, 1, 7)).to_kind(Kind::Double);
        let share = said.mean_dim([1_i64].as_slice(), false, Kind::Double);
        assert!((Tensor::from_slice(&learnt.recovered) - share).abs().max().double_value(&[]) < 1e-12);
        let (sum, gradient) = sentence.gradient(&golden.model, &vectors).unwrap();
        assert!((sum - learnt.ce.iter().sum::<f64>()).abs() < 1e-9 * sum);
        golden.close("gradient", &gradient, 1e-8);
    }
}

#[test]
fn a_sweeps_numbers_are_those_of_transformers() {
    for golden in FAMILIES.map(|family| Golden::in_kind(family, Kind::Float)) {
        let (layers, vectors, d) = (golden.layers(), golden.take("vectors"), golden.model.spec().d_model);
        let readout =
            Readout::new(golden.model.unembed(), golden.model.spec().vocab, Precision::Exact, 1).unwrap();
        let own = layers.iter().map(|layer| (*layer, vectors.get(*layer as i64)));
        let directions = [Direction::new("v", own, d).unwrap()];
        let lengths: Vec<f64> =
            layers.iter().map(|l| vectors.get(*l as i64).norm().double_value(&[])).collect();
        let settings: Vec<Setting> =
            layers.iter().map(|layer| Setting { direction: 0, layer: *layer, strength: 1.0 }).collect();
        let mut sweep =
            Sweep::new(&readout, &directions, &settings, &lengths, None, Intervals::bootstrap(0, 10))
                .unwrap();
        sweep.add(&golden.model, &[&window((0, tokens(9, 8)))], None, &Underway::unwatched()).unwrap();
        let rows = sweep.finish();
        let of = |metric: &str| {
            let own = rows.iter().filter(|r| r.metric == metric && r.kind == RowKind::Steer);
            Tensor::from_slice(&own.map(|r| r.estimate).collect::<Vec<_>>())
        };
        golden.close("kl", &of("kl"), 2e-4); // the readout is f32
        golden.close("ce", &of("ce"), 1e-5);
    }
}

#[test]
fn pairs_are_those_of_numpy() {
    let texts = [(0, 5), (3, 6), (1, 7), (2, 5), (4, 6), (5, 6), (6, 4), (7, 7)];
    let windows: Vec<Window> =
        texts.into_iter().map(|(start, n)| tokens(start, n)).enumerate().map(window).collect();
    for golden in FAMILIES.map(Golden::of) {
        // Batches of other sizes give the same.
        for rows in [1, 1000] {
            let found =
                between(&golden.model, &windows, &golden.layers(), rows, &Underway::unwatched()).unwrap();
            let stack = |of: &dyn Fn(&super::Differences) -> Tensor| {
                Tensor::stack(&found.iter().map(of).collect::<Vec<_>>(), 0)
            };
            golden.close("mean", &stack(&|d| d.mean.shallow_clone()), 1e-6); // states are kept in f32
            golden.close("pca", &stack(&|d| d.pca.shallow_clone()), 1e-5);
            golden.close("explained", &stack(&|d| Tensor::from(d.explained)), 1e-5);
            golden.close("consistency", &stack(&|d| Tensor::from_slice(&d.consistency)), 1e-5);
        }
    }
}

#[test]
fn a_vector_is_learnt_and_repeats_itself() {
    let golden = Golden::of("llama");
    let (layers, ids) = (golden.layers(), tokens(3, 6));
    let lengths = vec![1.0; layers.len()];
    let sentence = Sentence { name: "s", ids: &ids, layers: &layers, lengths: &lengths };
    let recipe = Recipe { steps: 60, rate: 0.5 };
    let learn = || sentence.learn(&golden.model, recipe, &Underway::unwatched()).unwrap();
    let learnt = learn();
    let nothing = sentence.measure(&golden.model, &learnt.vectors.zeros_like()).unwrap();
    assert!(learnt.ce.iter().zip(&nothing.ce).all(|(after, before)| *after < before - 0.3), "{learnt:?}");
    assert!(learn().vectors.equal(&learnt.vectors));
    // The control is as long, layer by layer, and says less.
    let control = sentence.measure(&golden.model, &sentence.random(&learnt, 1)).unwrap();
    let length = |vectors: &Tensor| vectors.norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false);
    assert!((length(&control.vectors) - length(&learnt.vectors)).abs().max().double_value(&[]) < 1e-9);
    assert!(control.ce.iter().zip(&learnt.ce).all(|(random, learnt)| random > learnt));
    let one = Sentence { ids: &ids[..1], ..sentence };
    let refused = one.learn(&golden.model, recipe, &Underway::unwatched()).unwrap_err().to_string();
    assert_eq!(refused, "s: it needs a token to say after the first");
    let sentence = Sentence { name: "s", ids: &ids, layers: &layers, lengths: &lengths };
    let stopped = sentence.learn(&golden.model, recipe, &Counter::until(1).begin()).unwrap_err();
    assert!(matches!(stopped, SteerError::Interrupted(_)));
}

#[test]
fn lines_by_hand() {
    // y = 2 x: slope 2, r 1. Bent: points (1, 1), (2, 4): slope (1 + 8) / 5; with the origin r = 12/sqrt(6·26).
    assert!((slope(&[(-1.0, -2.0), (2.0, 4.0)]) - 2.0).abs() < 1e-12);
    assert!((pearson(&[(-1.0, -2.0), (2.0, 4.0)]) - 1.0).abs() < 1e-12);
    assert!((slope(&[(1.0, 1.0), (2.0, 4.0)]) - 1.8).abs() < 1e-12);
    // deviations of x: 0, 1, -1; of y: -2/3, 7/3, -5/3; products sum to 4, squares to 2 and 78/9.
    assert!((pearson(&[(1.0, 1.0), (2.0, 4.0)]) - 4.0 / (2.0_f64 * 78.0 / 9.0).sqrt()).abs() < 1e-12);
}

#[test]
fn directions_have_length_one_and_say_what_is_wrong() {
    let vector = Tensor::from_slice(&[3.0_f32, 0.0, 4.0]);
    let unit = Direction::new("v", [(2, vector)], 3).unwrap();
    let values = Vec::<f64>::try_from(unit.at(2).unwrap()).unwrap();
    assert!((values[0] - 0.6).abs() < 1e-12 && (values[2] - 0.8).abs() < 1e-12);
    assert!(unit.at(1).is_none());
    let refused = |vector: Tensor| Direction::new("v", [(2, vector)], 3).unwrap_err().to_string();
    let zeros = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    assert_eq!(refused(zeros.shallow_clone()), "direction v, layer 2: the length is 0");
    assert_eq!(refused(&zeros / 0.0), "direction v, layer 2: the length is NaN");
    assert_eq!(
        refused(Tensor::zeros([2], (Kind::Float, Device::Cpu))),
        "direction v, layer 2: the shape is [2], not [3]"
    );
}

#[test]
fn random_directions_are_drawn_evenly_and_again_the_same() {
    let d = 4000;
    let of = |number, seed| Direction::random(number, &[1, 5], d, seed);
    let one = of(0, 7);
    let values = |direction: &Direction, layer| Vec::<f64>::try_from(direction.at(layer).unwrap()).unwrap();
    assert_eq!(values(&one, 5), values(&of(0, 7), 5));
    // Independent unit vectors of 4000 dimensions: their cosine has a standard deviation of 1/63.
    let others = [values(&one, 1), values(&of(1, 7), 5), values(&of(0, 8), 5)];
    for other in others {
        let cosine: f64 = values(&one, 5).iter().zip(&other).map(|(a, b)| a * b).sum();
        assert!(cosine.abs() < 0.08, "{cosine}");
    }
    // Normal numbers: their fourth moment is 3 (a uniform's 1.8); the standard deviation of the estimate is 0.15.
    let fourth = values(&one, 5).iter().map(|x| x.powi(4)).sum::<f64>() * d as f64;
    assert!((fourth - 3.0).abs() < 0.6, "{fourth}");
}

/// `scipy.stats.permutation_test` counts the same: (1 + as large)/(1 + n).
#[test]
fn ranks_by_hand() {
    let others = [0.1, -0.5, 0.3, -0.2];
    assert_eq!(rank(-0.3, &others), (3.0, 0.6)); // -0.5, and 0.3 as large
    assert_eq!(rank(0.6, &others), (1.0, 0.2));
    assert_eq!(rank(0.0, &others), (5.0, 1.0));
    assert_eq!(rank(1.0, &[]), (1.0, 1.0));
}

/// Six random directions on six windows: their mean, range and interval, and the rank of another one, from the rows of
/// each.
#[test]
fn a_direction_is_ranked_among_random_ones() {
    let golden = Golden::in_kind("llama", Kind::Float);
    let (d, layers) = (golden.model.spec().d_model, [0, 2]);
    let readout =
        Readout::new(golden.model.unembed(), golden.model.spec().vocab, Precision::Exact, 1).unwrap();
    let own = layers.map(|layer| (layer, golden.take("vectors").get(layer as i64)));
    let mut directions = vec![Direction::new("v", own, d).unwrap()];
    directions.extend((0..6).map(|i| Direction::random(i, &layers, d, 5)));
    let settings: Vec<Setting> = (0..7)
        .flat_map(|direction| {
            let strengths: &[f64] = if direction == 0 { &[-0.5, 0.5] } else { &[0.5] };
            let setting =
                move |layer| strengths.iter().map(move |s| Setting { direction, layer, strength: *s });
            layers.into_iter().flat_map(setting)
        })
        .collect();
    let lengths = vec![2.0; golden.model.spec().n_layers + 1];
    let contrast = Some(super::Contrast { toward: 5, away: 9 });
    let mut sweep =
        Sweep::new(&readout, &directions, &settings, &lengths, contrast, Intervals::default()).unwrap();
    let counter = Counter::default();
    let stage = counter.begin();
    for i in 0..6 {
        let window = window((i, tokens(i as u32, 8)));
        sweep.add(&golden.model, &[&window], None, &stage).unwrap();
    }
    assert_eq!(counter.counted(), 6 * settings.len() as u64);
    let rows = sweep.finish();
    let find = |subject: &str, metric: &str, layer: usize| {
        let own = |r: &&MetricRow| r.subject == subject && r.metric == metric && r.layer == layer as i32;
        rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}"))
    };
    for (layer, metric) in
        layers.into_iter().flat_map(|layer| ["kl", "response"].map(|metric| (layer, metric)))
    {
        let random: Vec<f64> =
            (1..=6).map(|i| find(&format!("random-{i}@+0.5"), metric, layer).estimate).collect();
        let mean = find("random-mean@+0.5", metric, layer);
        assert!((mean.estimate - random.iter().sum::<f64>() / 6.0).abs() < 1e-12);
        assert!(mean.kind == RowKind::SteerRandom && mean.n_eff == 6.0 && mean.lower.is_some(), "{mean:?}");
        let ends =
            ["least", "most"].map(|end| find("random-mean@+0.5", &format!("{metric}_{end}"), layer).estimate);
        assert_eq!(
            ends,
            [
                random.iter().copied().fold(f64::INFINITY, f64::min),
                random.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            ]
        );
        for subject in ["v@-0.5", "v@+0.5"] {
            let own = find(subject, metric, layer).estimate.abs();
            let beyond = 1 + random.iter().filter(|x| x.abs() >= own).count();
            let row = find(subject, &format!("{metric}_rank"), layer);
            assert_eq!((row.estimate, row.n, row.kind.as_str()), (beyond as f64, 6, "steer"));
            let p = find(subject, &format!("{metric}_p_value"), layer);
            assert!((p.estimate - beyond as f64 / 7.0).abs() < 1e-12 && p.reason.is_some());
        }
    }
    assert!(rows.iter().all(|r| r.kind != RowKind::SteerRandom || !r.metric.starts_with("response_s")));
    let stopped = sweep.add(&golden.model, &[&window((9, tokens(9, 8)))], None, &Counter::until(1).begin());
    assert!(matches!(stopped, Err(SteerError::Interrupted(_))));
}

#[test]
fn several_sentences_have_means_and_intervals() {
    let golden = Golden::of("llama");
    let (layers, vectors) = (golden.layers(), golden.take("vectors"));
    let lengths = vec![1.0; layers.len()];
    let mut ce = Vec::new();
    let rows: Vec<_> = (0..5)
        .map(|i| {
            let (ids, name) = (tokens(i, 6), format!("sentence-{}", i + 1));
            let sentence = Sentence { name: &name, ids: &ids, layers: &layers, lengths: &lengths };
            let learnt = sentence.measure(&golden.model, &vectors).unwrap();
            ce.push(learnt.ce[1]);
            sentence.rows(&learnt, &learnt)
        })
        .collect();
    assert!(rows.iter().flatten().all(|r| r.reason.as_deref() == Some("one sentence")));
    let found = over_sentences(rows.clone(), Intervals::default()).unwrap();
    for (subject, kind) in [("sentences", RowKind::SteerSentence), ("sentences-random", RowKind::SteerRandom)]
    {
        let own = |r: &&MetricRow| r.subject == subject && r.metric == "sentence_ce" && r.layer == 1;
        let row = found.iter().find(own).unwrap();
        assert!((row.estimate - ce.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        assert!(row.lower.is_some() && row.n == 5 && row.kind == kind, "{row:?}");
    }
    assert!(over_sentences(rows[..1].to_vec(), Intervals::default()).unwrap().is_empty());
}
