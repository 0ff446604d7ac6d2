//! Linear discriminant analysis.

use ndarray::{Array1, Array2, Axis};

use crate::linalg::solve;
use crate::{Error, Fit, Labelled, Linear, Link, Moments, Standardise};

/// How far the within-class covariance `S` is drawn to a sphere: `(1 - γ) S + γ tr(S) / d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrinkage {
    /// γ of the oracle approximating shrinkage (Chen et al. 2010), as scikit-learn's `OAS` has it.
    Oas,
    /// This γ, from 0 to 1.
    Fixed(f64),
}

/// Classes as normal distributions with one covariance: the direction `Σ⁻¹ (μ₁ - μ₀)` and its form for `k` classes.
///
/// Scores are log-posteriors with the training frequencies as priors. `Σ` is the pooled within-class covariance (with
/// `1 / n`), shrunk; where rows do not vary within classes, the sphere of all rows' variance, and where they do not
/// vary at all the priors decide. It is scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=γ)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lda {
    /// γ.
    pub shrinkage: Shrinkage,
    /// Whether the covariance is shrunk in z-scores; without shrinkage it changes nothing.
    pub standardise: bool,
}

impl Default for Lda {
    fn default() -> Self {
        Self { shrinkage: Shrinkage::Oas, standardise: true }
    }
}

impl Lda {
    /// From sums alone.
    ///
    /// # Errors
    /// When the labels are no classes, a class has no row, γ is out of range, or `Σ` is singular (then shrink it).
    pub fn fit_moments(&self, moments: &Moments) -> Result<Linear, Error> {
        let by = Standardise::of(moments, self.standardise)?;
        let n = moments.n() as f64;
        let mut covariance = by.scaled(moments.within()?) / n;
        self.shrinkage.apply(&mut covariance, n)?;
        if covariance.diag().sum() == 0.0 {
            covariance = Array2::eye(moments.d()) * spread(&by.scaled(moments.scatter()), n);
        }
        let (counts, means) = moments.classes()?;
        let means = (means - &by.mean) * &by.inverse();
        let transposed = means.t().as_standard_layout().into_owned();
        let weights = solve(&covariance, &transposed)?.reversed_axes().as_standard_layout().into_owned();
        let prior = Array1::from_iter(counts.iter().map(|c| (*c as f64 / n).ln()));
        let bias = prior - (&weights * &means).sum_axis(Axis(1)) / 2.0;
        Linear::new(weights, bias, Link::Softmax)?.fold(&by)
    }
}

/// Mean variance of a dimension of rows with this scatter; 1 where none varies.
fn spread(scatter: &Array2<f64>, n: f64) -> f64 {
    let mean = scatter.diag().sum() / (n * scatter.nrows() as f64);
    if mean > 0.0 { mean } else { 1.0 }
}

impl Shrinkage {
    fn apply(self, s: &mut Array2<f64>, n: f64) -> Result<(), Error> {
        let d = s.nrows() as f64;
        let mean = s.diag().sum() / d;
        let gamma = match self {
            Self::Oas => {
                let square = s.iter().map(|v| v * v).sum::<f64>() / (d * d);
                let (over, under) = (square + mean * mean, (n + 1.0) * (square - mean * mean / d));
                // Of a sphere `under` is 0, and rounding may leave it on either side: below it γ would be any negative
                // number.
                if under <= 0.0 { 1.0 } else { (over / under).min(1.0) }
            }
            Self::Fixed(gamma) if (0.0..=1.0).contains(&gamma) => gamma,
            Self::Fixed(got) => {
                return Err(Error::Parameter { name: "shrinkage", expected: "a number from 0 to 1", got });
            }
        };
        *s *= 1.0 - gamma;
        s.diag_mut().mapv_inplace(|v| v + gamma * mean);
        Ok(())
    }
}

impl Fit for Lda {
    type Fitted = Linear;

    fn fit(&self, data: &Labelled<'_>) -> Result<Linear, Error> {
        data.classes()?;
        self.fit_moments(&Moments::of(data)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Labels, Probe};
    use ndarray::array;

    #[test]
    fn one_dimension_by_hand() {
        // means 0 and 4, within-class variance 1, priors 2/3 and 1/3: log odds 4 (x - 2) - log 2
        let x = array![[-1f32], [1.], [-1.], [1.], [3.], [5.]];
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 0, 0, 1, 1], n_classes: 2 } };
        for standardise in [false, true] {
            let probe = Lda { shrinkage: Shrinkage::Fixed(0.0), standardise }.fit(&data).unwrap();
            let scores = probe.scores(array![[2f32], [3.]].view()).unwrap();
            let odds = |i: usize| scores[[i, 1]] - scores[[i, 0]];
            assert!((odds(0) + 2f64.ln()).abs() < 1e-9 && (odds(1) - 4. + 2f64.ln()).abs() < 1e-9);
        }
    }

    #[test]
    fn rows_that_do_not_vary() {
        let fit = |x: &Array2<f32>| {
            let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 1], n_classes: 2 } };
            Lda::default().fit(&data).unwrap().scores(x.view()).unwrap()
        };
        // Nowhere: the priors 2/3 and 1/3 are the scores of all.
        for row in fit(&array![[3f32, 1.], [3., 1.], [3., 1.]]).outer_iter() {
            assert!((row[0] - (2f64 / 3.).ln()).abs() < 1e-12 && (row[1] - (1f64 / 3.).ln()).abs() < 1e-12);
        }
        // Not within classes: classes are told apart.
        let scores = fit(&array![[3f32, 1.], [3., 1.], [4., 1.]]);
        assert!(scores[[0, 0]] > scores[[0, 1]] && scores[[2, 1]] > scores[[2, 0]], "{scores}");
    }

    #[test]
    fn a_singular_covariance_needs_shrinkage() {
        let x = array![[0f32, 0.], [1., 1.], [4., 4.], [5., 5.]];
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 1, 1], n_classes: 2 } };
        let fit = |shrinkage| Lda { shrinkage, standardise: false }.fit(&data);
        assert!(matches!(fit(Shrinkage::Fixed(0.0)), Err(Error::Singular { .. })));
        assert!(matches!(fit(Shrinkage::Fixed(1.5)), Err(Error::Parameter { .. })));
        // Symmetric classes far apart: each on its side of 2.5.
        let scores = fit(Shrinkage::Oas).unwrap().scores(x.view()).unwrap();
        let sides: Vec<bool> = scores.outer_iter().map(|row| row[1] > row[0]).collect();
        assert_eq!(sides, [false, false, true, true]);
    }
}
