//! Every number of `lens eval` and `lens transfer` against a dense torch computation on the same tokens
//! (`fixtures/lenses/make_golden.py`), and what must not change them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
};

use layerscope::{
    hook::{BlockHook, HookPoint},
    lens::evaluate::{Baselines, EvalError, Evaluation},
    lens::transfer::{Mean, Subjects, Transfer},
    lenses::{
        Affine, FutureLens, Horizon, LayerIndex, Lens, LogitLens, Precision, Readout, Teacher, TunedLens,
    },
    model::{Model, Weights},
    results::run::{MetricRow, RowKind},
    results::statistics::{Blocks, Intervals},
    sources::text::{BosPolicy, Corpus, Tokenizer, Window, WindowOptions, open_windows},
    states::States,
    watch::Underway,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::properties::fixture;

const MODELS: [(&str, &str); 2] = [("gpt2-alice-8l", "random-gpt2"), ("llama-alice-6l", "random-llama")];
const HORIZONS: std::ops::RangeInclusive<usize> = 1..=4;

/// A model, the golden's text, and the golden's translators.
struct Case {
    name: &'static str,
    model: Model,
    readout: Readout,
    windows: Vec<Window>,
    translators: BTreeMap<LayerIndex, Affine>,
}

impl Case {
    fn open((name, random): (&'static str, &str), seq_len: usize) -> Self {
        let folder = fixture(name);
        let model = Model::load(&folder, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
        let readout = Readout::new(model.unembed(), model.spec().vocab, Precision::Exact, 1).unwrap();
        let params = fixture("lenses").join(random).join("params.safetensors");
        let params = Weights::open_file(&params, Kind::Float).unwrap();
        let get = |layer: usize, part: &str| params.take_any(&format!("layer.{layer}.{part}")).unwrap();
        let map = |layer| (LayerIndex(layer), Affine::new(get(layer, "weight"), get(layer, "bias")).unwrap());
        let translators = (0..model.spec().n_layers).map(map).collect();
        Self { name, windows: windows(&folder, seq_len), model, readout, translators }
    }

    fn layers(&self) -> usize {
        self.model.spec().n_layers
    }

    fn copies(&self) -> BTreeMap<LayerIndex, Affine> {
        self.translators.iter().map(|(layer, map)| (*layer, map.copy())).collect()
    }

    fn tuned(&self) -> Box<dyn Lens> {
        Box::new(TunedLens::new("tuned", self.copies()))
    }

    /// The residual stream entering blocks `0..n`.
    fn points(n: usize) -> Vec<HookPoint> {
        (0..n).map(|layer| HookPoint::Block(layer, BlockHook::ResidPre)).collect()
    }

    /// Evaluates `lenses` at layers 0 to L, over `rows` rows at a time.
    fn evaluate(
        &self,
        readout: &Readout,
        lenses: &[Box<dyn Lens>],
        windows: &[&Window],
        rows: usize,
    ) -> Table {
        let kinds = vec![RowKind::Tuned; lenses.len()];
        let points = Self::points(self.layers() + 1);
        let intervals = Intervals::bootstrap(0, 20);
        let mut evaluation =
            Evaluation::new(readout, lenses, &kinds, &points, self.layers(), intervals, true).unwrap();
        States::each(
            &self.model,
            &points,
            (windows, rows),
            &Underway::unwatched(),
            |states, _| -> Result<(), EvalError> {
                evaluation.add(states, None, &mut |_, _, _| Ok(())).map(drop)
            },
        )
        .unwrap();
        Table(evaluation.finish())
    }

    fn golden(&self, seq_len: usize) -> Value {
        let all = std::fs::read_to_string(fixture("lenses/metrics_golden.json")).unwrap();
        let mut all: Value = serde_json::from_str(&all).unwrap();
        all["models"][self.name][format!("seq_len {seq_len}")].take()
    }

    fn all_windows(&self) -> Vec<&Window> {
        self.windows.iter().collect()
    }
}

/// The first twelve documents, cut as the golden's.
fn windows(folder: &Path, seq_len: usize) -> Vec<Window> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("twelve.jsonl");
    let stories = std::fs::read_to_string(fixture("stories.jsonl")).unwrap();
    std::fs::write(&file, stories.lines().take(12).collect::<Vec<_>>().join("\n")).unwrap();
    let tokenizer = Tokenizer::load(folder, BosPolicy::Auto).unwrap();
    let corpus = Corpus::open(&[file], None, None).unwrap();
    let options = WindowOptions { seq_len, max_tokens: None, pack: false };
    let windows: Result<Vec<_>, _> = open_windows(corpus, &tokenizer, &options).unwrap().collect();
    windows.unwrap()
}

/// Rows, and how to find one.
struct Table(Vec<MetricRow>);

impl Table {
    fn row(&self, subject: &str, layer: usize, horizon: usize, metric: &str) -> &MetricRow {
        let same = |r: &&MetricRow| {
            (r.subject.as_str(), r.layer as usize, r.horizon as usize, r.metric.as_str())
                == (subject, layer, horizon, metric)
                && r.source_layer.is_none()
        };
        self.0.iter().find(same).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}, +{horizon}"))
    }
}

/// What is wrong, all of it.
#[derive(Default)]
struct Wrong(String, usize);

impl Wrong {
    fn check(&mut self, good: bool, what: &dyn Fn() -> String) {
        self.1 += 1;
        if !good {
            writeln!(self.0, "{}", what()).unwrap();
        }
    }

    fn end(self) {
        assert!(self.0.is_empty() && self.1 > 0, "of {} numbers:\n{}", self.1, self.0);
    }
}

/// Means of ones and zeros, and of ranks: a logit rounded the other way may move one token.
fn is_count(metric: &str) -> bool {
    ["accuracy", "agreement", "precision", "rank"].iter().any(|name| metric.starts_with(name))
}

/// Every metric of `subject` at `horizon` against one table of the golden.
fn compare(wrong: &mut Wrong, ours: &Table, golden: &Value, subject: &str, horizon: usize) {
    for (metric, by_layer) in golden.as_object().unwrap() {
        let name = if metric == "marginal_bias" { "marginal_kl" } else { metric };
        if ["n_model", "n_true", "closest"].contains(&name) || (name == "marginal_kl" && horizon > 1) {
            continue;
        }
        for (layer, want) in by_layer.as_array().unwrap().iter().enumerate() {
            let row = ours.row(subject, layer, horizon, name);
            let want = want.as_f64().unwrap();
            let flip = if is_count(name) || name == "surprisal" { 1.0 / row.n as f64 } else { 0.0 };
            // A KL of zero is one of rounded logits; a rank can move by more than one, its scale says how much.
            let scale = if name == "surprisal" { 10.0 } else { 1.0 };
            let limit = 1e-4 * want.abs() + scale * flip + 1e-6;
            wrong.check((row.estimate - want).abs() <= limit, &|| {
                format!("{subject} layer {layer} +{horizon} {name}: {} instead of {want}", row.estimate)
            });
            let of_model = ["kl", "entropy", "agreement", "agreement_at_5", "agreement_at_10", "marginal_kl"];
            let n = &golden[if of_model.contains(&name) { "n_model" } else { "n_true" }];
            wrong.check(Some(row.n) == n.as_i64(), &|| {
                format!("{subject} layer {layer} +{horizon} {name}: n is {} instead of {n}", row.n)
            });
        }
    }
}

#[test]
fn every_metric_is_that_of_dense_logits() {
    for (model, seq_len) in MODELS.into_iter().flat_map(|m| [256, 100].map(|n| (m, n))) {
        let case = Case::open(model, seq_len);
        let golden = case.golden(seq_len);
        let count = |key: &str| golden[key].as_u64().unwrap() as usize;
        assert_eq!(case.windows.len(), count("windows"));
        assert_eq!(case.windows.iter().map(|w| w.ids.len()).sum::<usize>(), count("tokens"));
        let mut lenses: Vec<Box<dyn Lens>> = vec![Box::new(LogitLens), case.tuned()];
        let ahead = golden.get("future");
        for k in HORIZONS.filter(|_| ahead.is_some()) {
            lenses.push(Box::new(FutureLens::new("future", Horizon(k), case.copies())));
        }
        let ours = case.evaluate(&case.readout, &lenses, &case.all_windows(), 700);
        let mut wrong = Wrong::default();
        compare(&mut wrong, &ours, &golden["logit"], "logit", 1);
        compare(&mut wrong, &ours, &golden["tuned"], "tuned", 1);
        for k in HORIZONS.filter(|_| ahead.is_some()) {
            compare(&mut wrong, &ours, &golden["future"][k.to_string()], "future", k);
        }
        // The model itself is the logit lens at the last layer; it has no KL or agreement of its own.
        let last = case.layers();
        for metric in ["ce", "entropy", "accuracy", "rank", "precision_at_5", "precision_at_10", "surprisal"]
        {
            let (model, lens) = (ours.row("model", last, 1, metric), ours.row("logit", last, 1, metric));
            wrong.check((model.estimate - lens.estimate).abs() < 1e-9 && model.n == lens.n, &|| {
                format!("model {metric}: {} is not the lens's {}", model.estimate, lens.estimate)
            });
        }
        wrong.check(!ours.0.iter().any(|r| r.subject == "model" && r.metric == "kl"), &|| "model kl".into());
        println!("{}, seq_len {seq_len}: {} numbers", case.name, wrong.1);
        wrong.end();
    }
}

#[test]
fn the_transfer_matrix_is_that_of_dense_logits_and_its_diagonal_the_evaluation() {
    check_transfer(&MODELS[1..]);
}

#[test]
#[ignore = "slow; .ci/run runs it"]
fn the_larger_transfer_matrix_too() {
    check_transfer(&MODELS[..1]);
}

fn check_transfer(models: &[(&'static str, &str)]) {
    for &model in models {
        let case = Case::open(model, 256);
        let golden = &case.golden(256)["transfer"];
        let l = case.layers();
        let (points, lens) = (Case::points(l), case.tuned());
        let layers: Vec<LayerIndex> = (0..l).map(LayerIndex).collect();
        let windows = case.all_windows();
        let segments = windows.iter().flat_map(|w| &w.segments).map(|s| (s.doc_id, s.len as usize));
        let mut mean = Mean::new(case.readout.vocab(), Blocks::new(segments, 32));
        let each = |f: &mut dyn FnMut(&States) -> Result<(), EvalError>| {
            States::each(&case.model, &points, (&windows, 700), &Underway::unwatched(), |states, _| {
                f(states)
            })
            .unwrap();
        };
        each(&mut |states| {
            let n = case.readout.normalize(&states.last).unwrap();
            mean.add(&case.readout, &n, &states.docs).unwrap();
            Ok(())
        });
        let subjects = Subjects { lens: lens.as_ref(), others: &[] };
        let intervals = Intervals::bootstrap(0, 20);
        let mut transfer = Transfer::new(&case.readout, subjects, &layers, None, &mean, intervals).unwrap();
        each(&mut |states| transfer.add(states, &states.docs.clone()));
        let rows = transfer.rows("resid_pre");
        let own = case.evaluate(&case.readout, &[case.tuned()], &windows, 700);
        let find = |i: usize, j: usize, metric: &str| {
            let same = |r: &&MetricRow| {
                r.kind == RowKind::Transfer
                    && (r.source_layer, r.layer) == (Some(i as i32), j as i32)
                    && r.metric == metric
            };
            rows.iter().find(same).unwrap()
        };
        let mut wrong = Wrong::default();
        for (i, j) in (0..l).flat_map(|i| (0..l).map(move |j| (i, j))) {
            for metric in ["ce", "kl", "agreement", "kl_native"] {
                let (row, want) = (find(i, j, metric), golden[metric][i][j].as_f64().unwrap());
                let flip = if is_count(metric) { 1.0 / row.n as f64 } else { 0.0 };
                let limit = 1e-4 * want.abs() + flip + 1e-6;
                wrong.check((row.estimate - want).abs() <= limit, &|| {
                    format!("{metric}[{i}, {j}]: {} instead of {want}", row.estimate)
                });
                let n = &golden[if metric == "ce" { "n_true" } else { "n_model" }];
                wrong.check(Some(row.n) == n.as_i64(), &|| format!("{metric}[{i}, {j}]: n {}", row.n));
            }
            let ce = |i, j| find(i, j, "ce").estimate;
            for (penalty, diagonal) in [("penalty_state", j), ("penalty_lens", i)] {
                let row = find(i, j, penalty);
                let want = ce(i, j) - ce(diagonal, diagonal);
                let exact = i != j || (row.estimate, row.lower, row.upper) == (0.0, Some(0.0), Some(0.0));
                wrong.check(exact && (row.estimate - want).abs() < 1e-12, &|| {
                    format!("{penalty}[{i}, {j}]: {row:?}, the difference is {want}")
                });
            }
        }
        for layer in 0..l {
            for metric in ["ce", "kl", "agreement"] {
                let (cell, row) = (find(layer, layer, metric), own.row("tuned", layer, 1, metric));
                let same = |r: &MetricRow| (r.estimate, r.lower, r.upper, r.n, r.n_clusters);
                wrong.check(same(cell) == same(row), &|| {
                    format!("{metric} at {layer}: transfer {:?}, evaluation {:?}", same(cell), same(row))
                });
            }
            wrong.check(find(layer, layer, "kl_native").estimate.abs() < 1e-9, &|| "kl_native".into());
        }
        println!("{}: {} numbers", case.name, wrong.1);
        wrong.end();
    }
}

#[test]
fn batches_threads_and_order_change_nothing() {
    let case = Case::open(MODELS[0], 100);
    let lenses = || -> Vec<Box<dyn Lens>> {
        vec![
            Box::new(LogitLens),
            case.tuned(),
            Box::new(FutureLens::new("future", Horizon(3), case.copies())),
        ]
    };
    let readout = |threads| {
        Readout::new(case.model.unembed(), case.model.spec().vocab, Precision::Exact, threads).unwrap()
    };
    let forth: Vec<&Window> = case.windows.iter().take(18).collect();
    let back: Vec<&Window> = forth.iter().rev().copied().collect();
    let expected = case.evaluate(&readout(1), &lenses(), &forth, 2048);
    let mut wrong = Wrong::default();
    for (rows, threads, windows) in [(64, 1, &forth), (2048, 2, &forth), (2048, 1, &back), (64, 2, &back)] {
        let table = case.evaluate(&readout(threads), &lenses(), windows, rows);
        assert_eq!(table.0.len(), expected.0.len());
        for (a, b) in table.0.iter().zip(&expected.0) {
            let of = a.metric.trim_end_matches("_step").trim_end_matches("_difference");
            let flip = if is_count(of) || of == "surprisal" { 10.0 / a.n as f64 } else { 0.0 };
            // A difference has the rounding of its sides, which are up to 30 nats.
            let sides = if a.kind == RowKind::Difference { 60.0 } else { 0.0 };
            // A marginal is summed in f32 within a block of rows.
            let relative = if a.metric == "marginal_kl" { 1e-5 } else { 1e-6 };
            let near = |x: f64, y: f64, times: f64| {
                (x - y).abs() <= times * relative * (y.abs() + sides) + 1e-9 + times * flip
            };
            // An end is t(5) = 2.6 standard errors of six documents away, and has their rounding so many times more.
            let near_if = |x: Option<f64>, y: Option<f64>| match (x, y) {
                (Some(x), Some(y)) => near(x, y, 3.6),
                (x, y) => x == y,
            };
            let good = (&a.subject, a.layer, &a.metric, a.n, a.n_clusters)
                == (&b.subject, b.layer, &b.metric, b.n, b.n_clusters)
                && near(a.estimate, b.estimate, 1.0)
                && near_if(a.lower, b.lower)
                && near_if(a.upper, b.upper);
            wrong.check(good, &|| format!("{rows} rows, {threads} threads: {a:?} against {b:?}"));
        }
    }
    wrong.end();
}

#[test]
fn a_tuned_lens_of_nothing_is_the_logit_lens() {
    for model in MODELS {
        let case = Case::open(model, 256);
        let d = case.readout.d_model();
        let none = (0..=case.layers()).map(|i| (LayerIndex(i), Affine::identity(d, Device::Cpu))).collect();
        let lenses: [Box<dyn Lens>; 2] = [Box::new(LogitLens), Box::new(TunedLens::new("zero", none))];
        let table = case.evaluate(&case.readout, &lenses, &case.all_windows(), 2048);
        let mut wrong = Wrong::default();
        for row in table.0.iter().filter(|r| r.subject == "logit" && r.kind != RowKind::Difference) {
            let zero = table.row("zero", row.layer as usize, 1, &row.metric);
            let same = |r: &MetricRow| (r.estimate, r.lower, r.upper, r.n);
            wrong.check(same(zero) == same(row), &|| format!("{zero:?} against {row:?}"));
        }
        wrong.end();
    }
}

/// How often each token followed each context, `distance` later in one window.
fn pairs<'w>(
    windows: impl Iterator<Item = &'w Window>,
    distance: usize,
) -> HashMap<u32, HashMap<u32, usize>> {
    let mut all: HashMap<u32, HashMap<u32, usize>> = HashMap::new();
    for window in windows {
        for pair in window.ids.windows(distance + 1) {
            *all.entry(pair[0]).or_default().entry(pair[distance]).or_default() += 1;
        }
    }
    all
}

fn commonest(counts: &HashMap<u32, usize>) -> u32 {
    *counts.iter().max_by_key(|(token, n)| (**n, std::cmp::Reverse(**token))).unwrap().0
}

/// The model's distributions `[tokens, vocab]` of some windows, f64.
fn distributions(case: &Case, windows: &[&Window]) -> Tensor {
    let one = |window: &&Window| {
        let ids: Vec<i64> = window.ids.iter().map(|id| i64::from(*id)).collect();
        let ids = Tensor::from_slice(&ids).unsqueeze(0);
        case.model.forward(&ids, &mut ()).unwrap().unwrap().get(0).log_softmax(-1, Kind::Double)
    };
    Tensor::cat(&windows.iter().map(one).collect::<Vec<_>>(), 0)
}

/// Mean KL of predictions to the mean of others.
fn constant_kl(log_p: &Tensor, fitted: &Tensor) -> f64 {
    let constant = fitted.exp().mean_dim(0, false, Kind::Double).log();
    (log_p.exp() * (log_p - constant)).sum(Kind::Double).double_value(&[]) / log_p.size()[0] as f64
}

/// The golden fits on documents 0 to 5 and predicts 6 to 11; ours predicts even documents from odd ones and the other
/// way round. Renumbered, the two are the same.
#[test]
fn baselines_are_those_of_the_golden_and_of_a_plain_count() {
    let mut case = Case::open(MODELS[0], 256);
    let golden = &case.golden(256)["baselines"];
    for segment in case.windows.iter_mut().flat_map(|w| &mut w.segments) {
        segment.doc_id = if segment.doc_id < 6 { 2 * segment.doc_id } else { 2 * (segment.doc_id - 6) + 1 };
    }
    let side = |odd: u64| -> Vec<&Window> {
        case.windows.iter().filter(|w| w.segments[0].doc_id % 2 == odd).collect()
    };
    let vocab = case.readout.vocab();
    let mut baselines = Baselines::count(case.windows.iter(), 4, vocab);
    States::each(
        &case.model,
        &[],
        (&case.all_windows(), 700),
        &Underway::unwatched(),
        |states, _| -> Result<(), EvalError> {
            baselines.add(&case.readout, &Teacher::of(&case.readout, &states.last).unwrap(), &states.docs)
        },
    )
    .unwrap();
    let intervals = Intervals::bootstrap(0, 20);
    let of = |rows: &[MetricRow], subject: &str, k: usize, metric: &str| {
        let same = |r: &&MetricRow| r.subject == subject && r.horizon as usize == k && r.metric == metric;
        rows.iter().find(same).unwrap().clone()
    };
    let held = baselines.rows(side(1).into_iter(), intervals).unwrap();
    let all = baselines.rows(case.windows.iter(), intervals).unwrap();
    for k in HORIZONS {
        let (mut hits, mut n) = ([0usize; 3], 0usize);
        for odd in [0, 1] {
            let fitted = || side(1 - odd).into_iter();
            let tails = fitted().flat_map(|w| &w.ids[1..]);
            let mut unigram = HashMap::new();
            tails.for_each(|id| *unigram.entry(*id).or_insert(0) += 1);
            let (common, next, skip) = (commonest(&unigram), pairs(fitted(), 1), pairs(fitted(), k));
            for window in side(odd) {
                for t in 0..window.ids.len().saturating_sub(k) {
                    let guess = |counts: &HashMap<u32, HashMap<u32, usize>>, context: u32| {
                        counts.get(&context).map_or(common, commonest)
                    };
                    let guesses = [common, guess(&next, window.ids[t + k - 1]), guess(&skip, window.ids[t])];
                    n += 1;
                    for (hit, guess) in hits.iter_mut().zip(guesses) {
                        *hit += usize::from(guess == window.ids[t + k]);
                    }
                }
            }
        }
        for (place, (ours, theirs)) in
            [("unigram", "unigram"), ("bigram", "bigram"), ("skipgram", "skip_gram")].into_iter().enumerate()
        {
            let row = of(&all, ours, k, "accuracy");
            assert_eq!(row.n as usize, n, "{ours} +{k}");
            assert!((row.estimate - hits[place] as f64 / n as f64).abs() < 1e-12, "{ours} +{k}: {row:?}");
            let (row, want) =
                (of(&held, ours, k, "accuracy"), golden[k.to_string()][theirs]["accuracy"].as_f64());
            assert!((row.estimate - want.unwrap()).abs() < 1e-8, "{ours} +{k}: {row:?}, golden {want:?}");
        }
    }
    let (even, odd) = (distributions(&case, &side(0)), distributions(&case, &side(1)));
    let want = golden["1"]["constant_kl"].as_f64().unwrap();
    assert!((constant_kl(&odd, &even) - want).abs() < 1e-4 * want);
    let (a, b) = (even.size()[0] as f64, odd.size()[0] as f64);
    let want = (a * constant_kl(&even, &odd) + b * constant_kl(&odd, &even)) / (a + b);
    let row = of(&all, "constant", 1, "kl");
    assert!((row.estimate - want).abs() < 1e-5 * want && row.n as f64 == a + b, "{row:?}, want {want}");
}
