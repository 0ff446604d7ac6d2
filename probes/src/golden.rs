//! The estimators against scikit-learn and numpy (`fixtures/probes/make_golden.py`).

use ndarray::{Array2, s};
use serde_json::Value;

use crate::{
    Centroid, Labelled, Labels, Lda, Logistic, Moments, Probe as _, Residual, Ridge, Shrinkage, Spectrum,
    Standardise, Whitened,
};

struct Golden(Value);

impl Golden {
    fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/probes/golden.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn x(&self, name: &Value) -> Array2<f32> {
        matrix(&self.0["x"][name.as_str().unwrap()]).mapv(|v| v as f32)
    }

    fn classes(&self, name: &Value, most: u32) -> Vec<u32> {
        let y = self.0["classes"][name.as_str().unwrap()].as_array().unwrap();
        y.iter().map(|v| (v.as_u64().unwrap() as u32).min(most)).collect()
    }
}

fn vector(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn matrix(v: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = v.as_array().unwrap().iter().map(vector).collect();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

/// Largest difference, relative to the largest number.
fn error<'a>(a: impl IntoIterator<Item = &'a f64>, b: impl IntoIterator<Item = &'a f64>) -> f64 {
    let (a, b): (Vec<_>, Vec<_>) = (a.into_iter().collect(), b.into_iter().collect());
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (*a - b).abs()).fold(0.0, f64::max) / largest
}

fn targets(x: &Array2<f32>) -> Array2<f64> {
    let x = x.mapv(f64::from);
    Array2::from_shape_fn((x.nrows(), 2), |(i, j)| match j {
        0 => x[[i, 0]] * 3.0 + x[[i, 1]],
        _ => (x[[i, 2]] / 10.0).powi(2),
    })
}

#[test]
fn logistic_reaches_the_minimum() {
    let golden = Golden::load();
    for case in golden.0["logistic"].as_array().unwrap() {
        let binary = case["binary"].as_bool().unwrap();
        let (x, y) = (golden.x(&case["x"]), golden.classes(&case["x"], if binary { 1 } else { 9 }));
        let labels = Labels::Classes { y: &y, n_classes: *y.iter().max().unwrap() as usize + 1 };
        let (rows, l2) = (Whitened::new(x.view(), true).unwrap(), case["l2"].as_f64().unwrap());
        let logistic = Logistic { balanced: case["balanced"].as_bool().unwrap(), ..Logistic::default() };
        // Alone and at the end of a path, which must not matter.
        let mut probes = logistic.path(&rows, &labels, &[l2, 1e3, 10.0 * l2]).unwrap();
        probes.truncate(1);
        probes.extend(logistic.path(&rows, &labels, &[l2]).unwrap());
        for probe in probes {
            let said = format!("{} {binary} {} {l2}: {:?}", case["x"], case["balanced"], probe.convergence);
            assert!(probe.convergence.converged, "{said}");
            let objective = case["objective"].as_f64().unwrap();
            assert!((probe.convergence.objective / objective - 1.0).abs() < 1e-6, "{said} {objective}");
            let by = Standardise::of_rows(x.view()).unwrap();
            let coef = &probe.linear.weights * &by.scale;
            let bias = &probe.linear.bias + &probe.linear.weights.dot(&by.mean);
            let (coef_error, bias_error) =
                (error(&coef, &matrix(&case["coef"])), error(&bias, &vector(&case["intercept"])));
            assert!(coef_error < 1e-3 && bias_error < 1e-3, "{said} {coef_error:e} {bias_error:e}");
        }
    }
}

#[test]
fn ridge_is_exact() {
    let golden = Golden::load();
    for case in golden.0["ridge"].as_array().unwrap() {
        let (x, l2) = (golden.x(&case["x"]), [case["l2"].as_f64().unwrap()]);
        let y = targets(&x);
        let data = Labelled { x: x.view(), y: Labels::Numbers(y.view()) };
        let rows = Ridge::path(&Spectrum::of_rows(x.view(), false).unwrap(), &data, &l2).unwrap();
        let sums = Ridge::path_of_moments(&Moments::of(&data).unwrap(), false, &l2).unwrap();
        for probe in [&rows[0], &sums[0]] {
            assert!(error(&probe.weights, &matrix(&case["coef"])) < 1e-6);
            let bias_error = error(&probe.bias, &vector(&case["intercept"]));
            assert!(
                bias_error < 1e-6,
                "{} {l2:?} {bias_error:e} {} {} {}",
                case["x"],
                probe.bias,
                case["intercept"],
                error(&probe.weights, &matrix(&case["coef"]))
            );
        }
    }
}

#[test]
fn discriminants_and_centroids_agree() {
    let golden = Golden::load();
    let name = Value::from("many");
    let (x, y) = (golden.x(&name), golden.classes(&name, 9));
    let data = Labelled { x: x.view(), y: Labels::Classes { y: &y, n_classes: 4 } };
    let moments = Moments::of(&data).unwrap();
    for (name, shrinkage) in [("fixed", Shrinkage::Fixed(0.1)), ("oas", Shrinkage::Oas)] {
        let probe = Lda { shrinkage, standardise: false }.fit_moments(&moments).unwrap();
        let scores = probe.scores(x.slice(s![..20, ..])).unwrap();
        assert!(error(&scores, &matrix(&golden.0["lda"][name])) < 1e-6, "{name}");
    }
    let scores = Centroid::default().fit_moments(&moments).unwrap().scores(x.view()).unwrap();
    let best =
        |row: ndarray::ArrayView1<'_, f64>| (0..4).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as f64;
    assert_eq!(scores.outer_iter().map(best).collect::<Vec<_>>(), vector(&golden.0["centroid"]));
}

#[test]
fn prediction_residuals_agree_with_numpy() {
    let golden = Golden::load();
    let x = golden.x(&Value::from("many"));
    let y = x.slice(s![.., 6..]).mapv(|v| f64::from(v).powi(2) + 20_000.0);
    let part = |from: usize, to: usize| {
        let y = y.slice(s![from..to, ..]);
        Moments::of(&Labelled { x: x.slice(s![from..to, ..]), y: Labels::Numbers(y) }).unwrap()
    };
    let found = Residual::of(&part(0, 160), &part(160, 240)).unwrap();
    let expected = |name| vector(&golden.0["residual"][name]);
    assert!(error(&found.in_sample, &expected("in_sample")) < 1e-6, "{found:?}");
    assert!(error(&found.adjusted, &expected("adjusted")) < 1e-6);
    assert!(error(&found.held_out, &expected("held_out")) < 1e-6);
}
