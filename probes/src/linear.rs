//! What every fitted linear probe is.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::features::affine;
use crate::labels::same_width;
use crate::{Dense, Error, Features, Probe, Standardise};

/// How the `k` values `x · weights + bias` become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// They are the scores.
    Identity,
    /// One value `z`: scores `(-z / 2, z / 2)` of two classes, whose difference it is.
    Margin,
    /// One value `z`: log-probabilities `(log σ(-z), log σ(z))` of two classes.
    Sigmoid,
    /// Log-probabilities of `k` classes.
    Softmax,
}

/// A linear probe on raw rows; a standardisation is folded into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// A direction a row `(k, d)`.
    pub weights: Array2<f64>,
    /// `(k,)`
    pub bias: Array1<f64>,
    /// From values to scores.
    pub link: Link,
}

impl Linear {
    /// Checks that the parts fit each other, for weights that come from a file.
    ///
    /// # Errors
    /// When the bias has another length, a value is not finite, or the link needs one direction and there are others.
    pub fn new(weights: Array2<f64>, bias: Array1<f64>, link: Link) -> Result<Self, Error> {
        if bias.len() != weights.nrows() {
            return Err(Error::Targets { expected: weights.nrows(), got: bias.len() });
        }
        if matches!(link, Link::Margin | Link::Sigmoid) && bias.len() != 1 {
            return Err(Error::Targets { expected: 1, got: bias.len() });
        }
        let wrong =
            |(w, b): (ndarray::ArrayView1<'_, f64>, &f64)| !b.is_finite() || w.iter().any(|v| !v.is_finite());
        match weights.outer_iter().zip(&bias).position(wrong) {
            Some(row) => Err(Error::NotFinite { row }),
            None => Ok(Self { weights, bias, link }),
        }
    }

    /// Width of the rows.
    pub fn d(&self) -> usize {
        self.weights.ncols()
    }

    /// A probe on z-scores as a probe on raw rows.
    ///
    /// # Errors
    /// When the widths differ.
    pub fn fold(mut self, by: &Standardise) -> Result<Self, Error> {
        same_width(self.d(), by.mean.len())?;
        self.weights *= &by.inverse();
        self.bias -= &self.weights.dot(&by.mean);
        Ok(self)
    }

    /// `x · weights + bias` `(n, k)`, before the link.
    ///
    /// # Errors
    /// When `x` has another width, or a value is not finite.
    pub fn values(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>, Error> {
        same_width(self.d(), x.ncols())?;
        let x = x.as_standard_layout();
        affine(&Dense::new(x.view())?, &self.weights, &self.bias)
    }

    /// Scores of sparse rows.
    ///
    /// # Errors
    /// When `x` has another width.
    pub fn scores_of<F: Features>(&self, x: &F) -> Result<Array2<f64>, Error> {
        Ok(self.link.scores(affine(x, &self.weights, &self.bias)?))
    }
}

impl Probe for Linear {
    fn scores(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>, Error> {
        Ok(self.link.scores(self.values(x)?))
    }
}

impl Link {
    fn scores(self, mut values: Array2<f64>) -> Array2<f64> {
        let two = |f: fn(f64) -> (f64, f64)| {
            let mut out = Array2::zeros((values.nrows(), 2));
            for (z, mut out) in values.iter().zip(out.outer_iter_mut()) {
                (out[0], out[1]) = f(*z);
            }
            out
        };
        match self {
            Self::Identity => values,
            Self::Margin => two(|z| (-z / 2.0, z / 2.0)),
            Self::Sigmoid => two(|z| (-softplus(z), -softplus(-z))),
            Self::Softmax => {
                for mut row in values.axis_iter_mut(Axis(0)) {
                    let largest = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                    // In two steps: beside values of 1e17 the logarithm is lost, and classes that are equal would all
                    // be certain.
                    row -= largest;
                    let lse = row.fold(0.0, |s, v| s + v.exp()).ln();
                    row -= lse;
                }
                values
            }
        }
    }
}

/// `log(1 + eᶻ)`
pub(crate) fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn links_by_hand() {
        let close = |a: Array2<f64>, b: Array2<f64>| assert!((a - b).mapv(f64::abs).sum() < 1e-12);
        let half = 0.5f64.ln();
        close(Link::Sigmoid.scores(array![[0.], [800.]]), array![[half, half], [-800., 0.]]);
        close(Link::Margin.scores(array![[4.]]), array![[-2., 2.]]);
        close(
            Link::Softmax.scores(array![[1., 1., f64::NEG_INFINITY]]).mapv(f64::exp),
            array![[0.5, 0.5, 0.]],
        );
        close(Link::Softmax.scores(array![[800., 0.]]), array![[0., -800.]]);
        close(Link::Softmax.scores(array![[1e30, 1e30]]), array![[half, half]]);
    }

    #[test]
    fn folding_changes_no_score() {
        let x = array![[1f32, 7., -4.], [3., 7., 4.], [2., 7., 9.]];
        let by = Standardise::of_rows(x.view()).unwrap();
        let probe = Linear::new(array![[1., 2., -3.]], array![0.5], Link::Identity).unwrap();
        let on_z = probe.scores(by.apply(x.view()).unwrap().view()).unwrap();
        let folded = probe.fold(&by).unwrap();
        assert!((folded.scores(x.view()).unwrap() - on_z).mapv(f64::abs).sum() < 1e-5);
        assert_eq!(folded.weights[[0, 1]], 0.0); // column 1 is constant
        let blocked = folded.scores_of(&Dense::new(x.view()).unwrap()).unwrap();
        assert!((folded.scores(x.view()).unwrap() - blocked).mapv(f64::abs).sum() < 1e-4);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |bias, link| Linear::new(array![[1., 2.], [3., 4.]], bias, link);
        let probe = new(array![0., 1.], Link::Identity).unwrap();
        assert!(matches!(probe.scores(array![[1f32]].view()), Err(Error::Width { expected: 2, got: 1 })));
        assert!(matches!(probe.scores(array![[1f32, f32::NAN]].view()), Err(Error::NotFinite { row: 0 })));
        let said = |bias, link| new(bias, link).unwrap_err().to_string();
        assert_eq!(said(array![0.], Link::Identity), "labels of width 1, expected 2");
        assert_eq!(said(array![0., 1.], Link::Sigmoid), "labels of width 2, expected 1");
        assert_eq!(said(array![0., f64::NAN], Link::Identity), "row 1: a value is not finite");
    }
}
