//! What a sweep says beside an accuracy so that it can be believed: a layer chosen on other rows, controls drawn
//! several times, codes of labels that mean nothing, seeds that move one thing each.

use std::path::Path;

use layerscope::{
    model::Weights,
    results::run::{Manifest, MetricRow, read_metrics},
};
use serde_json::Value;
use tch::Kind;

use crate::cli::{end, gpt2, layerscope, path, result, words};
use crate::properties::fixture;

fn sweep(data: &str, out: &Path, extra: &str) -> (Value, Vec<MetricRow>) {
    let mut command = layerscope();
    command.args(["probe", "sweep", "--json", "--quiet", "--model", &gpt2(), "--data"]);
    command.arg(fixture(data)).arg("--out").arg(out).args(words(extra));
    let ended = end(&mut command);
    assert_eq!(ended.code, Some(0), "{extra}: {}", ended.err);
    (result(&ended.out), read_metrics(out).unwrap())
}

fn of<'a>(rows: &'a [MetricRow], subject: &str, metric: &str) -> Vec<&'a MetricRow> {
    rows.iter().filter(|r| r.subject == subject && r.metric == metric).collect()
}

fn at<'a>(rows: &'a [MetricRow], subject: &str, layer: i32, metric: &str) -> &'a MetricRow {
    let found = of(rows, subject, metric).into_iter().find(|r| r.layer == layer);
    found.unwrap_or_else(|| panic!("no {metric} of {subject} at layer {layer}"))
}

/// The accuracy on the validation part that a cell's file holds.
fn validation(run: &Path, layer: i32, seed: u64) -> f64 {
    let cell = run.join(format!("cells/resid_pre.{layer}.seed{seed}.fold0.safetensors"));
    let facts = Weights::open_file(&cell, Kind::Double).unwrap().take_any("lda/facts").unwrap();
    facts.double_value(&[4])
}

#[test]
fn the_layer_is_chosen_on_validation_rows_and_quoted_on_test_rows() {
    let dir = tempfile::tempdir().unwrap();
    let extra = "--group-column pair --layers 0,2,4,6,8 --probe lda --mdl 0 --control-draws 0 --seeds";
    let layers = [0, 2, 4, 6, 8];
    // By hand: of every seed the layer that is best on its validation part, the first of equal ones; its accuracy on
    // the test part.
    let (mut sum, mut chosen) = (0.0, Vec::new());
    for seed in 0..3 {
        let out = dir.path().join(seed.to_string());
        let (_, rows) = sweep("probes/statements.csv", &out, &format!("{extra} 1 --seed {seed}"));
        let values = layers.map(|layer| validation(&out, layer, seed));
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let layer = layers[values.iter().position(|v| *v == highest).unwrap()];
        let own = of(&rows, "lda", "nested_accuracy");
        let accuracy = at(&rows, "lda", layer, "accuracy");
        assert_eq!((own.len(), own[0].layer, own[0].estimate), (1, layer, accuracy.estimate));
        assert_eq!((own[0].lower, own[0].upper, own[0].n), (accuracy.lower, accuracy.upper, accuracy.n));
        sum += accuracy.estimate;
        chosen.push(layer);
    }
    let out = dir.path().join("all");
    let (summary, rows) = sweep("probes/statements.csv", &out, &format!("{extra} 3"));
    let nested = of(&rows, "lda", "nested_accuracy")[0];
    assert!((nested.estimate - sum / 3.0).abs() < 1e-12 && chosen.contains(&nested.layer), "{nested:?}");
    assert!(nested.lower.unwrap() < nested.estimate && nested.estimate < nested.upper.unwrap());
    let told = &summary["best"][0]["nested"];
    assert_eq!(told["value"].as_f64(), Some(nested.estimate));
    let layers = told["layers"].as_array().unwrap();
    assert_eq!(layers[0]["layer"].as_i64(), Some(i64::from(nested.layer)));
    assert_eq!(layers.iter().map(|l| l["splits"].as_u64().unwrap()).sum::<u64>(), 3);
    // A sweep that keeps no states has the same choice.
    let (_, streamed) =
        sweep("probes/statements.csv", &dir.path().join("stream"), &format!("{extra} 3 --stream"));
    let other = of(&streamed, "lda", "nested_accuracy")[0];
    assert!(other.layer == nested.layer && (other.estimate - nested.estimate).abs() < 0.02, "{other:?}");
}

#[test]
fn controls_are_the_means_of_several_draws() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, extra: &str| {
        let common = "--label-column Quoted --layers 4 --probe mean-diff --seeds 2 --mdl 0";
        sweep("probes/words.conllu", &dir.path().join(name), &format!("{common} {extra}")).1
    };
    let of = |rows: &[MetricRow], metric: &str| at(rows, "mean-diff", 4, metric).clone();
    let several = run("several", "");
    for metric in ["selectivity", "control_accuracy", "shuffled_accuracy"] {
        let row = of(&several, metric);
        assert!(row.lower.unwrap() < row.estimate && row.estimate < row.upper.unwrap(), "{row:?}");
    }
    let gap = of(&several, "accuracy").estimate - of(&several, "control_accuracy").estimate;
    assert!((of(&several, "selectivity").estimate - gap).abs() < 1e-12);
    // One draw knows nothing of the others, and another one is another number.
    let one = run("one", "--control-draws 1");
    assert_eq!((of(&one, "control_accuracy").lower, of(&one, "selectivity").upper), (None, None));
    assert!(of(&one, "accuracy") == of(&several, "accuracy"));
    assert_ne!(of(&one, "control_accuracy").estimate, of(&several, "control_accuracy").estimate);
    let none = run("none", "--control-draws 0");
    assert!(
        !none.iter().any(|r| ["selectivity", "control_accuracy", "shuffled_accuracy"].contains(&&*r.metric))
    );
    // Sums of a stream have the same draws.
    let streamed = run("streamed", "--stream");
    for metric in ["control_accuracy", "shuffled_accuracy"] {
        let (a, b) = (of(&streamed, metric), of(&several, metric));
        assert!((a.estimate - b.estimate).abs() < 0.01, "{a:?} {b:?}");
    }
}

#[test]
fn a_code_stands_beside_that_of_shuffled_labels() {
    let dir = tempfile::tempdir().unwrap();
    let extra = "--group-column pair --layers 0,8 --probe logistic --seeds 1 --mdl 3 --control-draws 0";
    let (_, rows) = sweep("probes/statements.csv", &dir.path().join("run"), extra);
    let number = |layer, metric| at(&rows, "logistic", layer, metric);
    for layer in [0, 8] {
        let [own, shuffled, less] =
            ["compression", "shuffled_compression", "compression_less_shuffled"].map(|m| number(layer, m));
        assert!((own.estimate - shuffled.estimate - less.estimate).abs() < 1e-12);
        assert!(shuffled.estimate < 1.01, "{shuffled:?}");
        assert!(less.lower.unwrap() < less.estimate && less.n == 560, "{less:?}");
    }
    // The embedding says nothing: no shorter than labels that mean nothing. The last layer does.
    let (early, late) = (number(0, "compression_less_shuffled"), number(8, "compression_less_shuffled"));
    assert!(early.lower.unwrap() <= 0.0 && early.estimate.abs() < 0.05, "{early:?}");
    assert!(late.estimate > 0.05, "{late:?}");
    // Of two classes p log2 K is 1 bit: a mean of three compressions is between the least and the largest.
    assert!(number(8, "compression").estimate < 3.0);
}

#[test]
fn a_seed_moves_splits_and_another_one_moves_resampling() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, extra: &str| {
        let out = dir.path().join(name);
        let common = "--group-column pair --layers 8 --probe lda --seeds 1 --mdl 0 --replicates 50";
        let rows = sweep("probes/statements.csv", &out, &format!("{common} {extra}")).1;
        (rows, Manifest::read(&out).unwrap().unwrap())
    };
    let ((plain, a), (resampled, b), (split, c)) =
        (run("a", ""), run("b", "--bootstrap-seed 9"), run("c", "--seed 9"));
    // What resampling itself says of the best layer moves with it.
    let measured = |r: &&MetricRow| !r.metric.starts_with("best_") && r.metric != "tied_with_best";
    let estimates = |rows: &[MetricRow]| rows.iter().filter(measured).map(|r| r.estimate).collect::<Vec<_>>();
    assert_eq!(estimates(&plain), estimates(&resampled));
    assert_ne!(estimates(&plain), estimates(&split));
    let seeds = [a, b, c].map(|m| (m.seed, m.config["bootstrap_seed"].as_u64().unwrap()));
    assert_eq!(seeds, [(0, 0), (0, 9), (9, 0)]);
    // The same parts and probes, whatever is resampled.
    let cell =
        |run: &str| std::fs::read(dir.path().join(run).join("cells/resid_pre.8.seed0.fold0.safetensors"));
    assert_eq!(cell("a").unwrap(), cell("b").unwrap());
}

#[test]
fn probabilities_have_a_brier_score_and_a_calibration_error_to_compare_with() {
    let dir = tempfile::tempdir().unwrap();
    let extra = "--group-column pair --layers 8 --probe logistic --mdl 0 --control-draws 0";
    let (_, rows) = sweep("probes/statements.csv", &dir.path().join("run"), extra);
    let number = |metric: &str| at(&rows, "logistic", 8, metric);
    let [brier, reliability, resolution, uncertainty] =
        ["brier", "brier_reliability", "brier_resolution", "brier_uncertainty"].map(|m| number(m).estimate);
    assert!((brier - (reliability - resolution + uncertainty)).abs() < 1e-12);
    // Both classes are as frequent: 1/4, n / (n - 1) times.
    assert!((uncertainty - 0.25).abs() < 0.01 && brier < 0.25, "{brier} {uncertainty}");
    assert_eq!((number("brier").unit.as_str(), number("ece_debiased").unit.as_str()), ("score", "share"));
    let [plain, debiased, calibrated] = ["ece", "ece_debiased", "ece_calibrated"].map(|m| number(m).estimate);
    assert!(debiased < plain && (0.0..0.2).contains(&calibrated), "{plain} {debiased} {calibrated}");
    // Saved probes have them on other data as well.
    let ended = end(layerscope()
        .args(words("probe apply --quiet --group-column pair --model"))
        .arg(gpt2())
        .args([
            "--data".into(),
            path(fixture("probes/statements.csv")),
            "--probe".into(),
            path(dir.path().join("run")),
        ])
        .arg("--out")
        .arg(dir.path().join("applied")));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let applied = read_metrics(&dir.path().join("applied")).unwrap();
    assert!(at(&applied, "logistic", 8, "ece_calibrated").estimate > 0.0);
}
