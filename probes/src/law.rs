//! The law of next-token prediction (He and Su 2024): how well each layer's states tell a number, the next token's id.
//!
//! At each layer the target is regressed on the states, with an intercept. The prediction residual `PR` is the mean
//! squared error over the variance of the target, `1 - R²`. The law says that `log PR` falls by the same step a layer.

use ndarray::{Array1, Array2, Axis};

use crate::linalg::{of, times};
use crate::ridge::least_squares;
use crate::{Error, Linear, Moments};

/// Prediction residuals of one layer, a value for each target `(k,)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// On the rows of the fit. Of noise it is about `1 - d / (n - 1)`, so it falls with `d` alone.
    pub in_sample: Array1<f64>,
    /// `(RSS / (n - rank - 1)) / (TSS / (n - 1))`; NaN with too few rows.
    pub adjusted: Array1<f64>,
    /// On other rows, with the variance of their own targets. It may be above 1.
    pub held_out: Array1<f64>,
    /// Directions that the fit used.
    pub rank: usize,
    /// Rows of the fit.
    pub n: u64,
    /// Other rows.
    pub n_held_out: u64,
    /// The regression.
    pub linear: Linear,
}

impl Residual {
    /// Least squares on the rows of `fit`, scored on them and on those of `held_out`, from their sums alone.
    ///
    /// # Errors
    /// When the labels are not numbers, widths differ, there are fewer than two rows, or a target does not vary.
    pub fn of(fit: &Moments, held_out: &Moments) -> Result<Self, Error> {
        let (linear, rank) = least_squares(fit)?;
        let (in_sample, n) = (residual(&linear, fit)?, fit.n() as f64);
        let left = n - rank as f64 - 1.0;
        let adjusted =
            if left > 0.0 { &in_sample * ((n - 1.0) / left) } else { in_sample.mapv(|_| f64::NAN) };
        let held = residual(&linear, held_out)?;
        Ok(Self { in_sample, adjusted, held_out: held, rank, n: fit.n(), n_held_out: held_out.n(), linear })
    }
}

/// Mean squared error of `linear` over the variance of the targets, on the rows of `moments` `(k,)`.
///
/// # Errors
/// When the labels are not numbers, widths differ, there are fewer than two rows, or a target does not vary.
pub fn residual(linear: &Linear, moments: &Moments) -> Result<Array1<f64>, Error> {
    let total = total(moments)?;
    Ok(squared_error(linear, moments)? / total)
}

/// The residual where every row is predicted by a regression on the rows of the other `folds`: the squared errors of
/// all folds over `Σ (y - ȳ)²` of all rows `(k,)`. Folds without rows are passed over.
///
/// # Errors
/// As [`residual`], and when there are fewer than two folds with rows.
pub fn cross_validated(folds: &[Moments]) -> Result<Array1<f64>, Error> {
    let folds: Vec<&Moments> = folds.iter().filter(|fold| fold.n() > 0).collect();
    let [first, others @ ..] = folds.as_slice() else { return Err(Error::Few { expected: 2, got: 0 }) };
    let mut all = (*first).clone();
    others.iter().try_for_each(|fold| all.merge(fold))?;
    let total = total(&all)?;
    let mut errors = Array1::zeros(total.len());
    for fold in &folds {
        let (linear, _) = least_squares(&all.less(fold)?)?;
        errors += &squared_error(&linear, fold)?;
    }
    Ok(errors / total)
}

/// `Σ (y - ȳ)²` `(k,)`, of targets that vary.
fn total(moments: &Moments) -> Result<Array1<f64>, Error> {
    if moments.n() < 2 {
        return Err(Error::Few { expected: 2, got: moments.n() as usize });
    }
    let (mean, total) = moments.labels()?;
    let n = moments.n() as f64;
    match total.iter().zip(&mean).position(|(t, m)| *t <= 1e-13 * n * m * m) {
        Some(column) => Err(Error::Flat { column }),
        None => Ok(total),
    }
}

/// `Σ (y - ŷ)²` `(k,)`.
fn squared_error(linear: &Linear, moments: &Moments) -> Result<Array1<f64>, Error> {
    crate::labels::same_width(linear.d(), moments.d())?;
    let ((mean_y, total), mean_x) = (moments.labels()?, moments.mean()?);
    if mean_y.len() != linear.bias.len() {
        return Err(Error::Targets { expected: linear.bias.len(), got: mean_y.len() });
    }
    // Σ y² - 2 w · Σ x y + wᵀ (Σ x xᵀ) w about the means, and n times the squared error of the mean.
    let w: &Array2<f64> = &linear.weights;
    let explained = (w * &moments.cross()?.t()).sum_axis(Axis(1));
    let predicted = (times(of(w), of(&moments.scatter())) * w).sum_axis(Axis(1));
    let offset = mean_y - w.dot(&mean_x) - &linear.bias;
    let n = moments.n() as f64;
    Ok((total - &(explained * 2.0) + predicted + &offset * &offset * n).mapv(|v| v.max(0.0)))
}

/// The line `log10 PR = intercept + slope · layer`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    /// By how much `log10 PR` changes in a layer.
    pub slope: f64,
    /// At layer 0.
    pub intercept: f64,
    /// Part of the variance of `log10 PR` that the line explains.
    pub r2: f64,
    /// Correlation of layer and `log10 PR`; NaN when `PR` does not vary.
    pub pearson: f64,
    /// `PR` of the last layer over that of the first.
    pub ratio: f64,
    /// The decay a layer, `ratio^(1 / (L - 1))` for consecutive layers.
    pub rho: f64,
}

impl Decay {
    /// Fits the line to the residuals `pr` at `layers`, which rise. The paper leaves the embedding layer out.
    ///
    /// # Errors
    /// When there are fewer than three layers or not as many residuals, layers do not rise, or a residual
    /// is not above 0.
    pub fn fit(layers: &[f64], pr: &[f64]) -> Result<Self, Error> {
        crate::labels::same_rows(layers.len(), pr.len())?;
        if layers.len() < 3 {
            return Err(Error::Few { expected: 3, got: layers.len() });
        }
        pr.iter().try_for_each(|v| crate::labels::positive("prediction residual", *v))?;
        for pair in layers.windows(2) {
            crate::labels::positive("step between layers", pair[1] - pair[0])?;
        }
        let n = layers.len() as f64;
        let logs: Vec<f64> = pr.iter().map(|v| v.log10()).collect();
        let (mean_x, mean_y) = (layers.iter().sum::<f64>() / n, logs.iter().sum::<f64>() / n);
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            layers.iter().zip(&logs).map(|(x, y)| f(x - mean_x, y - mean_y)).sum()
        };
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        let pearson = xy / (xx * yy).sqrt();
        let (first, last) = (layers[0], layers[layers.len() - 1]);
        let ratio = pr[pr.len() - 1] / pr[0];
        let (slope, rho) = (xy / xx, ratio.powf(1.0 / (last - first)));
        Ok(Self { slope, intercept: mean_y - slope * mean_x, r2: pearson * pearson, pearson, ratio, rho })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;
    use crate::{Labelled, Labels};
    use ndarray::s;

    fn moments(x: &Array2<f32>, y: &Array2<f64>) -> Moments {
        Moments::of(&Labelled { x: x.view(), y: Labels::Numbers(y.view()) }).unwrap()
    }

    #[test]
    fn noise_looks_predictable_in_sample_only() {
        let (n, d) = (400, 100);
        let (x, y) = (normal(2 * n, d, 1), normal(2 * n, 1, 2).mapv(f64::from));
        let half = |from: usize, to: usize| {
            moments(&x.slice(s![from..to, ..]).to_owned(), &y.slice(s![from..to, ..]).to_owned())
        };
        let found = Residual::of(&half(0, n), &half(n, 2 * n)).unwrap();
        assert!((found.in_sample[0] - (1.0 - d as f64 / (n as f64 - 1.0))).abs() < 0.08, "{found:?}");
        assert!((found.adjusted[0] - 1.0).abs() < 0.1 && found.held_out[0] > 1.1);
        assert_eq!((found.rank, found.n, found.n_held_out), (100, 400, 400));
    }

    #[test]
    fn sums_agree_with_rows() {
        let x = normal(60, 4, 3) + 2.0;
        let y = Array2::from_shape_fn((60, 2), |(i, j)| f64::from(x[[i, j]] * x[[i, 3]]) * 1000.0 + 40000.0);
        let found = Residual::of(&moments(&x, &y), &moments(&x, &y)).unwrap();
        let error = found.linear.values(x.view()).unwrap() - &y;
        let spread = &y - &y.mean_axis(Axis(0)).unwrap();
        let pr = (&error * &error).sum_axis(Axis(0)) / (&spread * &spread).sum_axis(Axis(0));
        assert!((&found.in_sample - &pr).mapv(f64::abs).sum() < 1e-9);
        assert!((found.held_out - pr).mapv(f64::abs).sum() < 1e-9);
    }

    /// Against scikit-learn's `cross_val_predict` with `LinearRegression`, with every block left out in turn
    /// (`fixtures/probes/make_law_folds_golden.py`): a wide array of sums loses no more than 1e-9 of the residual.
    #[test]
    fn folds_and_what_is_left_without_a_block_are_those_of_scikit_learn() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../fixtures/probes/law_folds_golden.json")).unwrap();
        // As the script has it.
        let x = Array2::from_shape_fn((120, 4), |(i, j)| {
            ((i * (7 * j + 5) + j * j + i * i * (j + 1)) % 53) as f32 / 16.0 + 2.0
        });
        let y = Array2::from_shape_fn((120, 2), |(i, k)| {
            let noise = ((i * i * (k + 3) + 11 * i) % 31) as f64;
            100.0 * f64::from(x[[i, k]]) - 40.0 * f64::from(x[[i, 3]]) + noise * 6.0
        });
        let of = |blocks: &[usize], without: Option<usize>| {
            let mut sum = Moments::of_numbers(4, 2);
            for block in blocks.iter().filter(|block| Some(**block) != without) {
                let rows = s![10 * block..10 * block + 10, ..];
                sum.merge(&moments(&x.slice(rows).to_owned(), &y.slice(rows).to_owned())).unwrap();
            }
            sum
        };
        // Block b of 12 is in fold b mod 5.
        let folds = |without: Option<usize>| -> Vec<Moments> {
            (0..5).map(|fold| of(&(0..12).filter(|b| b % 5 == fold).collect::<Vec<_>>(), without)).collect()
        };
        let close = |got: &Array1<f64>, want: &serde_json::Value| {
            for (got, want) in got.iter().zip(want.as_array().unwrap()) {
                let want = want.as_f64().unwrap();
                assert!((got - want).abs() < 1e-9 * want, "{got}, scikit-learn {want}");
            }
        };
        close(&cross_validated(&folds(None)).unwrap(), &golden["residual"]);
        for (block, want) in golden["without"].as_array().unwrap().iter().enumerate() {
            let got = cross_validated(&folds(Some(block))).unwrap();
            close(&got, want);
            // A fold less a block is the fold without it.
            let mut less = folds(None);
            less[block % 5] = less[block % 5].less(&of(&[block], None)).unwrap();
            assert!((cross_validated(&less).unwrap() / got - 1.0).mapv(f64::abs).sum() < 1e-9);
        }
        assert!(matches!(cross_validated(&[]), Err(Error::Few { .. })));
    }

    #[test]
    fn a_quick_solution_is_the_thorough_one() {
        let x = normal(90, 6, 5) * 3.0 + 1.0;
        let y =
            Array2::from_shape_fn((90, 1), |(i, _)| f64::from(x[[i, 0]] - x[[i, 4]] + x[[i, 1]] * x[[i, 2]]));
        let sums = moments(&x, &y);
        let (quick, rank) = least_squares(&sums).unwrap();
        let thorough = crate::Ridge::path_of_moments(&sums, true, &[0.0]).unwrap().remove(0);
        assert!((&quick.weights - &thorough.weights).mapv(f64::abs).sum() < 1e-11 && rank == 6);
        assert!((&quick.bias - &thorough.bias).mapv(f64::abs).sum() < 1e-11);
        // A copy of a column and a constant one leave five directions, by eigenvalues.
        let twice = Array2::from_shape_fn((90, 7), |(i, j)| match j {
            5 => x[[i, 0]],
            6 => 4.0,
            j => x[[i, j]],
        });
        let (found, rank) = least_squares(&moments(&twice, &y)).unwrap();
        assert_eq!(rank, 5);
        assert!((found.weights[[0, 0]] - found.weights[[0, 5]]).abs() < 1e-9 && found.weights[[0, 6]] == 0.0);
    }

    #[test]
    fn decay_by_hand() {
        // log10: 0, -1, -3 at 1, 2, 3: slope -3/2, mean -4/3, intercept -4/3 + 3
        let found = Decay::fit(&[1., 2., 3.], &[1., 0.1, 0.001]).unwrap();
        assert!((found.slope + 1.5).abs() < 1e-12 && (found.intercept - 5. / 3.).abs() < 1e-12);
        // xy = -3, xx = 2, yy = 16/9 + 1/9 + 25/9 = 14/3: r² = 27/28
        assert!((found.r2 - 27. / 28.).abs() < 1e-12 && found.pearson < 0.0);
        assert!((found.ratio - 1e-3).abs() < 1e-15 && (found.rho - 10f64.powf(-1.5)).abs() < 1e-12);
        let said = |layers: &[f64], pr: &[f64]| Decay::fit(layers, pr).unwrap_err().to_string();
        assert_eq!(said(&[1., 2.], &[1., 0.5]), "2 rows, expected at least 3");
        let zero = said(&[1., 2., 3.], &[1., 0.5, 0.0]);
        assert_eq!(zero, "prediction residual is 0, expected a number above 0");
        let back = said(&[1., 3., 2.], &[1., 0.5, 0.2]);
        assert_eq!(back, "step between layers is -1, expected a number above 0");
    }

    #[test]
    fn a_flat_target_is_named() {
        let (x, y) = (normal(10, 2, 1), Array2::from_elem((10, 1), 7.0));
        let m = moments(&x, &y);
        assert_eq!(Residual::of(&m, &m).unwrap_err().to_string(), "target 0 does not vary");
    }
}
