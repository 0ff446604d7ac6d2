//! Metrics against scikit-learn (fixtures/probes), hand arithmetic, and hostile input.

use ndarray::{Array2, array};
use serde_json::Value;

use super::{Classified, Metric, R2, log_softmax};
use crate::{Bootstrap, Error, Resamples};

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
            ];
            for (name, got) in got {
                close(got, case[expected][name].as_f64().unwrap(), &format!("case {i}, {expected} {name}"));
            }
        }
    }
}

#[test]
fn every_metric_has_its_name_and_interval() {
    let case = &golden("classes")[1];
    let y: Vec<u32> = serde_json::from_value(case["y"].clone()).unwrap();
    let rows = Classified::new(matrix(&case["scores"]).view(), &y).unwrap();
    let groups: Vec<u64> = (0..y.len() as u64).map(|row| row / 3).collect();
    let bootstrap = Bootstrap::new(&groups, Resamples::new(0, 200)).unwrap();
    for (name, draws) in rows.metrics(&bootstrap).unwrap() {
        let got = draws.estimate();
        close(got.estimate, case["expected"][name].as_f64().unwrap(), name);
        assert!(got.upper.unwrap() > got.lower.unwrap() && got.n_clusters == 50, "{name}");
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
