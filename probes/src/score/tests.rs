//! Metrics against scikit-learn (fixtures/probes), hand arithmetic, and hostile input.

use ndarray::{Array2, array};
use serde_json::Value;

use super::{Classified, Metric, R2, log_softmax};
use crate::{Error, Intervals, Weightings};

fn golden(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../fixtures/probes/scores_golden.json");
    serde_json::from_str::<Value>(text).unwrap()[kind].as_array().unwrap().clone()
}

fn floats(v: &Value) -> Vec<f64> {
    serde_json::from_value(v.clone()).unwrap()
}

fn matrix(v: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(v.clone()).unwrap();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

fn close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-9, "{what}: {got}, expected {expected}");
}

fn mean(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / weights.iter().sum::<f64>()
}

#[test]
fn classes_as_scikit_learn() {
    for (i, case) in golden("classes").iter().enumerate() {
        let y: Vec<u32> = serde_json::from_value(case["y"].clone()).unwrap();
        let rows = Classified::new(matrix(&case["scores"]).view(), &y).unwrap();
        let ones = vec![1.0; y.len()];
        for (expected, weights) in [("expected", ones), ("weighted", floats(&case["weights"]))] {
            let got = [
                ("accuracy", mean(&rows.correct(), &weights)),
                ("nll", mean(&rows.nll(), &weights)),
                ("macro_f1", rows.macro_f1().value(&weights)),
                ("auroc", rows.auroc().value(&weights)),
                ("ece", rows.ece().value(&weights)),
                ("ece_debiased", rows.ece().debiased().value(&weights)),
                ("brier", mean(&rows.brier(), &weights)),
                ("brier_reliability", rows.reliability().value(&weights)),
                ("brier_uncertainty", rows.uncertainty().value(&weights)),
            ];
            for (name, got) in got {
                close(got, case[expected][name].as_f64().unwrap(), &format!("case {i}, {expected} {name}"));
            }
            // A binomial of the same mean and variance stands in for the sum of unequal draws.
            let exact = case[expected]["ece_calibrated"].as_f64().unwrap();
            let got = rows.ece().calibrated().value(&weights);
            assert!((got / exact - 1.0).abs() < 0.005, "case {i}, {expected}: {got}, exactly {exact}");
        }
    }
}

#[test]
fn every_metric_has_its_name_and_interval() {
    let case = &golden("classes")[1];
    let y: Vec<u32> = serde_json::from_value(case["y"].clone()).unwrap();
    let rows = Classified::new(matrix(&case["scores"]).view(), &y).unwrap();
    let groups: Vec<u64> = (0..y.len() as u64).map(|row| row / 3).collect();
    let weightings = Weightings::new(&groups, Intervals::default()).unwrap();
    for (name, draws) in rows.metrics(&weightings).unwrap() {
        let got = draws.estimate();
        let tolerance = if name == "ece_calibrated" { 0.005 } else { 1e-9 };
        assert!((got.estimate - case["expected"][name].as_f64().unwrap()).abs() < tolerance, "{name}");
        assert!(got.upper().unwrap() > got.lower().unwrap() && got.n_clusters == 50, "{name}");
    }
}

#[test]
fn numbers_as_scikit_learn() {
    for case in golden("numbers") {
        let r2 = R2::new(matrix(&case["predicted"]).view(), matrix(&case["y"]).view()).unwrap();
        let ones = vec![1.0; r2.rows()];
        for (expected, weights) in [("expected", ones), ("weighted", floats(&case["weights"]))] {
            close(r2.value(&weights), case[expected]["r2"].as_f64().unwrap(), "r2");
            let each = floats(&case[expected]["each"]);
            let outputs = r2.outputs().into_iter().zip(each);
            outputs.for_each(|(output, b)| close(output.value(&weights), b, "r2 of an output"));
        }
    }
}

#[test]
fn four_rows_by_hand() {
    // Log-odds of class 1: 2, 1, 1, -3. Positives are rows 0, 1; pairs (0,2) (0,3) (1,3) won, (1,2) tied: 3.5 of 4.
    let scores = array![[0.0, 2.0], [0.0, 1.0], [0.0, 1.0], [0.0, -3.0]];
    let rows = Classified::new(scores.view(), &[1, 1, 0, 0]).unwrap();
    assert_eq!(rows.predicted(), [1, 1, 1, 0]);
    assert_eq!(rows.correct(), [1.0, 1.0, 0.0, 1.0]);
    assert_eq!(rows.auroc().point(), 3.5 / 4.0);
    // Class 0: tp 1, fn 1: 2/3. Class 1: tp 2, fp 1: 4/5.
    close(rows.macro_f1().point(), f64::midpoint(2.0 / 3.0, 0.8), "macro F1");
    close(rows.nll()[0], (1.0 + (-2.0_f64).exp()).ln(), "nll");
    // Top probabilities 0.881, 0.731, 0.731, 0.953 are in bins 14, 11, 11, 15.
    let p = |s: f64| 1.0 / (1.0 + (-s).exp());
    let by_bin = (1.0 - p(2.0)) + (1.0 - 2.0 * p(1.0)).abs() + (1.0 - p(3.0));
    close(rows.ece().point(), by_bin / 4.0, "ece");
    // Row 2 left out: every pair is won.
    assert_eq!(rows.auroc().value(&[1.0, 1.0, 0.0, 5.0]), 1.0);
    close(rows.macro_f1().value(&[1.0, 1.0, 0.0, 5.0]), 1.0, "macro F1");
    // A class that is nowhere counts nowhere.
    let absent = Classified::new(array![[0.0, 2.0, -9.0], [1.0, 0.0, -9.0]].view(), &[1, 0]).unwrap();
    assert_eq!(absent.macro_f1().point(), 1.0);
    assert_eq!(rows.macro_f1().value(&[0.0, 0.0, 0.0, 1.0]), 1.0);
}

/// Bins of one probability have exactly what a binomial has: of 10 rows at 0.9, E|wrong - 1| = 2 · 9/10 · C(10, 1) ·
/// 0.1 · 0.9⁹.
#[test]
fn what_a_calibrated_probe_scores_by_hand() {
    let rows = |p: f64, n: usize, wrong: usize| {
        let scores =
            Array2::from_shape_fn((n, 2), |(_, class)| if class == 1 { (p / (1.0 - p)).ln() } else { 0.0 });
        let y: Vec<u32> = (0..n).map(|row| u32::from(row >= wrong)).collect();
        Classified::new(scores.view(), &y).unwrap()
    };
    close(rows(0.9, 10, 1).ece().calibrated().point(), 0.2 * 0.9_f64.powi(10), "ten rows");
    // One row: wrong by 0.9 with probability 0.1, by 0.1 with 0.9.
    close(rows(0.9, 1, 0).ece().calibrated().point(), 2.0 * 0.9 * 0.1, "one row");
    close(rows(0.9, 1, 0).ece().debiased().point(), 0.2 - folded_by_hand(0.1, 0.3), "one row, debiased");
    // Sure, and right: nothing is left to chance, or next to nothing.
    let sure =
        Classified::new(Array2::from_shape_fn((5, 2), |(_, c)| 800.0 * c as f64).view(), &[1; 5]).unwrap();
    assert_eq!(
        (sure.ece().point(), sure.ece().calibrated().point(), sure.ece().debiased().point()),
        (0.0, 0.0, 0.0)
    );
    assert_eq!((sure.reliability().point(), sure.uncertainty().point()), (0.0, 0.0));
}

/// Of N(m, s²): s √(2/π) e^(-m²/2s²) + m (1 - 2 Φ(-m/s)), Φ(-1/3) = 0.36944134018176367.
fn folded_by_hand(m: f64, s: f64) -> f64 {
    s * (2.0 / std::f64::consts::PI).sqrt() * (-m * m / (2.0 * s * s)).exp()
        + m * (1.0 - 2.0 * 0.369_441_340_181_763_67)
}

/// Probes that are right about their chances, with few rows and many: the expected value is met, debiasing takes off a
/// third or more of it, and reliability is 0 on average.
#[test]
fn of_calibrated_probes_the_expected_value_is_the_mean() {
    for n in [20_usize, 200] {
        let (mut plain, mut expected, mut debiased, mut reliability) = (0.0, 0.0, 0.0, 0.0);
        let runs = 400;
        for seed in 0..runs {
            let scores = crate::draw::tests::normal(n, 3, seed).mapv(|s| 2.0 * f64::from(s));
            let p = log_softmax(scores.view()).mapv(f64::exp);
            let mut random = crate::draw::stream(seed, b"layerscope/test of score", 0);
            let class = |row: usize| {
                let u = crate::draw::uniform(&mut random);
                u32::from(u > p[[row, 0]]) + u32::from(u > p[[row, 0]] + p[[row, 1]])
            };
            let y: Vec<u32> = (0..n).map(class).collect();
            let rows = Classified::new(scores.view(), &y).unwrap();
            plain += rows.ece().point() / runs as f64;
            expected += rows.ece().calibrated().point() / runs as f64;
            debiased += rows.ece().debiased().point() / runs as f64;
            reliability += rows.reliability().point() / runs as f64;
        }
        // Of 400 runs the mean has a standard error of about 1.5 % of itself.
        assert!((plain / expected - 1.0).abs() < 0.06, "{n}: {plain} where {expected} is expected");
        assert!(debiased < 0.75 * plain, "{n}: {debiased} of {plain}");
        // One run's deviation is about 3 / n; five standard errors.
        assert!(reliability.abs() < 0.75 / n as f64, "{n}: {reliability}");
    }
}

#[test]
fn probabilities_that_round_to_one_still_have_an_order() {
    let scores = array![[0.0, 40.0], [0.0, 50.0], [0.0, 45.0]];
    assert_eq!(Classified::new(scores.view(), &[0, 1, 1]).unwrap().auroc().point(), 1.0);
    let scores = array![[0.0, 40.0, 0.0], [0.0, 50.0, 0.0], [0.0, 45.0, 1.0]];
    let rows = Classified::new(scores.view(), &[0, 1, 1]).unwrap();
    // Class 0: row 0 has the highest odds; class 1: the lowest; class 2 does not occur.
    assert_eq!(rows.auroc().point(), 1.0);
    let log_probs = log_softmax(array![[1e300, 0.0], [-1e4, 0.0]].view());
    assert_eq!(log_probs, array![[0.0, -1e300], [-1e4, 0.0]]);
    let equal = log_softmax(array![[1e30, 1e30, -1e30]].view());
    assert_eq!(equal, array![[-(2.0_f64.ln()), -(2.0_f64.ln()), -2e30]]);
}

#[test]
fn the_undefined_is_nan() {
    let rows = Classified::new(array![[0.0, 1.0], [1.0, 0.0]].view(), &[1, 1]).unwrap();
    assert!(rows.auroc().point().is_nan());
    assert!(rows.macro_f1().value(&[0.0, 0.0]).is_nan() && rows.ece().value(&[0.0, 0.0]).is_nan());
    let constant = R2::new(array![[1.0], [2.0], [3.0]].view(), array![[0.1], [0.1], [0.1]].view()).unwrap();
    assert!(constant.point().is_nan());
    let r2 = R2::new(array![[1.0], [2.0], [3.0]].view(), array![[1.0], [2.0], [4.0]].view()).unwrap();
    close(r2.point(), 1.0 - 1.0 / (42.0 / 9.0), "r2"); // mean 7/3: (16 + 1 + 25)/9
    assert!(r2.value(&[3.0, 0.0, 0.0]).is_nan());
}

#[test]
fn bad_scores_are_refused() {
    let error = |scores: Array2<f64>, y: &[u32]| Classified::new(scores.view(), y).unwrap_err().to_string();
    let nan = f64::NAN;
    assert_eq!(error(array![[0.0, 1.0], [0.0, nan]], &[0, 1]), "row 1: a value is not finite");
    assert_eq!(error(array![[0.0, f64::NEG_INFINITY]], &[0]), "row 0: a value is not finite");
    assert_eq!(error(array![[0.0, 1.0]], &[0, 1]), "1 row but 2 labels");
    assert_eq!(error(array![[0.0, 1.0]], &[2]), "row 0: class 2, but there are 2 classes");
    assert_eq!(error(array![[0.0]], &[0]), "1 class, expected two or more");
    assert_eq!(error(Array2::zeros((0, 2)), &[]), "no rows");
    let r2 = |predicted: Array2<f64>, y: Array2<f64>| R2::new(predicted.view(), y.view()).unwrap_err();
    assert!(matches!(r2(array![[0.0], [nan]], array![[0.0], [1.0]]), Error::NotFinite { row: 1 }));
    assert!(matches!(r2(array![[0.0], [1.0]], array![[0.0], [nan]]), Error::NotFinite { row: 1 }));
    assert!(matches!(r2(array![[0.0]], array![[0.0, 1.0]]), Error::Width { expected: 2, got: 1 }));
    assert!(matches!(r2(array![[0.0]], array![[0.0], [1.0]]), Error::Length { rows: 1, labels: 2 }));
    assert!(matches!(r2(Array2::zeros((0, 1)), Array2::zeros((0, 1))), Error::Empty));
    assert!(matches!(r2(Array2::zeros((2, 0)), Array2::zeros((2, 0))), Error::Empty));
}
