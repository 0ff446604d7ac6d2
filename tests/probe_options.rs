//! Options, each by what it changes.

use std::path::Path;

use layerscope::{
    model::Weights,
    probe::{Protocol, Target, Task, rounds},
    results::run::{Manifest, MetricRow, read_metrics},
    sources::labelled::{LabelPositions, LabelledOptions, LabelledSet, Plan},
    sources::text::{BosPolicy, Tokenizer},
};
use tch::Kind;

use crate::cli::{end, gpt2, layerscope, path, tiny, words};
use crate::properties::fixture;

fn run(command: &str, model: &str, data: &Path, out: &Path, extra: &str) -> String {
    let mut all = layerscope();
    all.args(words(command)).args(["--quiet", "--model", model, "--data"]).arg(data).arg("--out").arg(out);
    let ended = end(all.args(words(extra)));
    assert_eq!(ended.code, Some(0), "{extra}: {}", ended.err);
    ended.err
}

/// A logistic probe of a sweep's first split, with what it was fitted to.
struct Fitted {
    weights: Vec<f64>,
    bias: f64,
    /// Training rows.
    x: Vec<Vec<f64>>,
    y: Vec<u32>,
    lambda: f64,
}

impl Fitted {
    fn read(run: &Path, data: &Path, layer: usize, lambda: f64) -> Self {
        let set = LabelledSet::open(&[data.to_owned()], &LabelledOptions::default()).unwrap();
        let tokenizer = Tokenizer::load(&fixture("gpt2-alice-8l"), BosPolicy::Auto).unwrap();
        let plan = Plan::new(&set, &tokenizer, LabelPositions::Last, 256).unwrap();
        let task = Task::of(&plan, set.unit);
        let round = rounds(&task, Protocol { seed: 0, seeds: 1, kfold: None }).unwrap().remove(0);
        let Target::Classes { y, .. } = &task.target else { panic!("classes") };
        let file = Weights::open_file(
            &run.join(format!("probes/logistic.resid_pre.{layer}.safetensors")),
            Kind::Double,
        );
        let file = file.unwrap();
        let flat = |name: &str| Vec::<f64>::try_from(file.take_any(name).unwrap().view([-1])).unwrap();
        let npy = std::fs::read(run.join(format!("features/resid_pre.{layer}.npy"))).unwrap();
        let states = npy[npy.len() - task.len() * 128 * 4..]
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect::<Vec<_>>();
        Self {
            weights: flat("weight"),
            bias: flat("bias")[0],
            x: round.train.iter().map(|i| states[i * 128..(i + 1) * 128].to_vec()).collect(),
            y: round.train.iter().map(|i| y[*i]).collect(),
            lambda,
        }
    }

    /// How far this is from where the slope of `Σ s loss + ½ λ |w|²` is 0, over the size of its penalty's slope: as
    /// scikit-learn's `LogisticRegression(C=1/λ)` has it, on z-scores or raw states, with equal or balanced weights.
    fn off(&self, standardise: bool, balanced: bool) -> f64 {
        let (n, d) = (self.x.len() as f64, self.weights.len());
        let mean: Vec<f64> = (0..d).map(|j| self.x.iter().map(|x| x[j]).sum::<f64>() / n).collect();
        let scale = |j: usize| (self.x.iter().map(|x| (x[j] - mean[j]).powi(2)).sum::<f64>() / n).sqrt();
        let scale: Vec<f64> = (0..d).map(|j| if standardise { scale(j) } else { 1.0 }).collect();
        let ones = self.y.iter().filter(|y| **y == 1).count() as f64;
        let mut slope = vec![0.0; d + 1];
        for (x, y) in self.x.iter().zip(&self.y) {
            let z = x.iter().zip(&self.weights).map(|(x, w)| x * w).sum::<f64>() + self.bias;
            let count = if *y == 1 { ones } else { n - ones };
            let s = if balanced { n / (2.0 * count) } else { 1.0 };
            let residual = s * (1.0 / (1.0 + (-z).exp()) - f64::from(*y));
            slope[d] += residual;
            (0..d).for_each(|j| slope[j] += residual * (x[j] - mean[j]) / scale[j]);
        }
        let penalty: Vec<f64> = (0..d).map(|j| self.lambda * self.weights[j] * scale[j]).collect();
        let size = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let total = size(&mut slope[..d].iter().zip(&penalty).map(|(g, p)| g + p).chain([slope[d]]));
        total / size(&mut penalty.into_iter())
    }
}

#[test]
fn no_standardise_and_balanced_are_other_minima() {
    let dir = tempfile::tempdir().unwrap();
    // Twice as many of one kind as of the other.
    let text = std::fs::read_to_string(fixture("probes/statements.csv")).unwrap();
    let mut place = 0;
    let keep = |line: &&str| {
        place += 1;
        !line.contains(",woman,") || place % 4 < 2
    };
    let data = dir.path().join("uneven.csv");
    std::fs::write(&data, text.lines().filter(keep).collect::<Vec<_>>().join("\n")).unwrap();
    for (name, extra, standardise, balanced) in [
        ("plain", "", true, false),
        ("raw", "--no-standardise", false, false),
        ("even", "--balanced", true, true),
        ("both", "--balanced --no-standardise", false, true),
    ] {
        let out = dir.path().join(name);
        let own = format!("--layers 8 --probe logistic --seeds 1 --mdl 0 --l2 30 {extra}");
        run("probe sweep", &gpt2(), &data, &out, &own);
        let fitted = Fitted::read(&out, &data, 8, 30.0);
        let ones = fitted.y.iter().filter(|y| **y == 1).count() as f64 / fitted.y.len() as f64;
        assert!((0.2..0.42).contains(&ones), "{ones}");
        // The fit stops within 1e-6 of its objective: with a Hessian of λ or more that is a slope of a few thousandths
        // of the penalty's.
        let own = fitted.off(standardise, balanced);
        assert!(own < 0.02, "{name}: {own}");
        for (s, b) in [(true, false), (false, false), (true, true), (false, true)] {
            if (s, b) != (standardise, balanced) {
                assert!(fitted.off(s, b) > 0.1, "{name} is a minimum with standardise {s}, balanced {b} too");
            }
        }
        let config = Manifest::read(&out).unwrap().unwrap().config;
        assert_eq!((&config["standardise"], &config["balanced"]), (&standardise.into(), &balanced.into()));
    }
}

fn write_texts(file: &Path) {
    let line = |doc: usize| {
        let words: Vec<String> =
            (0..10 + doc % 5).map(|i| format!("w{}", (doc * 7 + i * i * 3 + 1) % 61)).collect();
        serde_json::json!({ "text": words.join(" ") }).to_string()
    };
    std::fs::write(file, (0..12).map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

fn keys(rows: &[MetricRow]) -> Vec<(String, String, i32, String)> {
    rows.iter().map(|r| (r.subject.to_string(), r.kind.to_string(), r.layer, r.metric.clone())).collect()
}

#[test]
fn no_marginals_leaves_one_metric_out_and_changes_no_other() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let data = dir.path().join("d.jsonl");
    write_texts(&data);
    let eval = |name: &str, extra: &str| {
        let out = dir.path().join(name);
        run("lens eval", &path(model.path()), &data, &out, &format!("--lens logit --replicates 20 {extra}"));
        read_metrics(&out).unwrap()
    };
    let (with, without) = (eval("with", ""), eval("without", "--no-marginals"));
    let known = keys(&without);
    let gone: Vec<&MetricRow> = with.iter().filter(|r| !known.contains(&keys(&[(*r).clone()])[0])).collect();
    assert!(!gone.is_empty() && gone.iter().all(|r| r.metric == "marginal_kl"), "{gone:?}");
    assert_eq!(gone.len() + without.len(), with.len());
    // KL(model ‖ lens) of the mean distributions of two layers that differ.
    assert!(gone.iter().all(|r| r.estimate > 1e-6), "{gone:?}");
    for row in &without {
        let same = |r: &&MetricRow| {
            keys(&[(*r).clone()]) == keys(std::slice::from_ref(row))
                && r.horizon == row.horizon
                && r.unit == row.unit
        };
        assert_eq!(with.iter().find(same), Some(row));
    }
}

#[test]
fn keep_first_leaves_the_first_position_alone() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let data = dir.path().join("d.jsonl");
    write_texts(&data);
    let causal = |name: &str, extra: &str| {
        let out = dir.path().join(name);
        let own =
            format!("--layers 1 --directions all --mode zero --basis-tokens 60 --replicates 20 {extra}");
        run("lens causal", &path(model.path()), &data, &out, &own);
        let config = Manifest::read(&out).unwrap().unwrap().config;
        (read_metrics(&out).unwrap(), config["keep_first"].clone())
    };
    let ((all, no), (kept, yes)) = (causal("all", ""), causal("kept", "--keep-first"));
    assert_eq!((no, yes), (false.into(), true.into()));
    let effects = |rows: &[MetricRow]| -> Vec<(i64, f64)> {
        rows.iter().filter(|r| r.metric == "effect").map(|r| (r.n, r.estimate)).collect()
    };
    let (all, kept) = (effects(&all), effects(&kept));
    assert!(!all.is_empty() && all.len() == kept.len());
    let apart = all.iter().zip(&kept).filter(|(a, b)| (a.1 - b.1).abs() > 1e-4 * a.1.abs()).count();
    assert!(apart * 2 > all.len(), "{apart} of {} effects are others", all.len());
}
