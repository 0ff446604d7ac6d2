use ndarray::{Array2, ArrayView2};

use super::{Auroc, Ece, MacroF1, Reliability, Uncertainty, brier};
use crate::{Draws, Error, Weightings};

/// Scores of rows beside their true classes: checked once, read by every metric.
#[derive(Debug, Clone)]
pub struct Classified {
    /// `(n, k)`
    pub(super) scores: Array2<f64>,
    /// `(n, k)`, in nats.
    pub(super) log_probs: Array2<f64>,
    pub(super) predicted: Vec<u32>,
    pub(super) y: Vec<u32>,
}

impl Classified {
    /// `scores` `(n, k)`, k classes or more than `y` has; softmax makes them probabilities. Of equal scores the first
    /// class is the predicted one.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::TooFewClasses`], [`Error::NoSuchClass`], and [`Error::NotFinite`]
    /// for a score that is NaN or infinite.
    pub fn new(scores: ArrayView2<'_, f64>, y: &[u32]) -> Result<Self, Error> {
        let (rows, n_classes) = scores.dim();
        if rows != y.len() {
            return Err(Error::Length { rows, labels: y.len() });
        }
        if rows == 0 {
            return Err(Error::Empty);
        }
        if n_classes < 2 {
            return Err(Error::TooFewClasses { got: n_classes });
        }
        if let Some((row, &class)) = y.iter().enumerate().find(|(_, class)| **class as usize >= n_classes) {
            return Err(Error::NoSuchClass { row, class, n_classes });
        }
        let finite = |row: &ndarray::ArrayView1<'_, f64>| row.iter().all(|s| s.is_finite());
        if let Some(row) = scores.outer_iter().position(|row| !finite(&row)) {
            return Err(Error::NotFinite { row });
        }
        let predicted = scores.outer_iter().map(|row| argmax(row.iter().copied()) as u32).collect();
        Ok(Self { log_probs: log_softmax(scores), scores: scores.to_owned(), predicted, y: y.to_vec() })
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.scores.ncols()
    }

    /// The class of the highest score of each row.
    pub fn predicted(&self) -> &[u32] {
        &self.predicted
    }

    /// 1 where the predicted class is the true one, `(n,)`: its mean is `accuracy`.
    pub fn correct(&self) -> Vec<f64> {
        self.predicted.iter().zip(&self.y).map(|(a, b)| f64::from(u8::from(a == b))).collect()
    }

    /// -log p of the true class in nats, `(n,)`: its mean is `nll`.
    pub fn nll(&self) -> Vec<f64> {
        self.log_probs.outer_iter().zip(&self.y).map(|(row, &class)| -row[class as usize]).collect()
    }

    /// Σ over classes of the squared difference between probability and truth, of two classes of the second alone,
    /// `(n,)`: its mean is `brier`.
    pub fn brier(&self) -> Vec<f64> {
        brier::losses(self)
    }

    /// Every metric by its name, with its resampled values.
    ///
    /// # Errors
    /// [`Error::Length`] when the bootstrap is of another number of rows.
    pub fn metrics(&self, weightings: &Weightings) -> Result<[(&'static str, Draws); 11], Error> {
        let (ece, brier) = (self.ece(), weightings.mean(&self.brier())?);
        let reliability = weightings.metric(&self.reliability())?;
        let uncertainty = weightings.metric(&self.uncertainty())?;
        let resolution = reliability.minus(&brier.minus(&uncertainty)?)?;
        Ok([
            ("accuracy", weightings.mean(&self.correct())?),
            ("macro_f1", weightings.metric(&self.macro_f1())?),
            ("auroc", weightings.metric(&self.auroc())?),
            ("nll", weightings.mean(&self.nll())?),
            ("ece", weightings.metric(&ece)?),
            ("ece_debiased", weightings.metric(&ece.debiased())?),
            ("ece_calibrated", weightings.metric(&ece.calibrated())?),
            ("brier", brier),
            ("brier_reliability", reliability),
            ("brier_resolution", resolution),
            ("brier_uncertainty", uncertainty),
        ])
    }

    /// `macro_f1`
    pub fn macro_f1(&self) -> MacroF1<'_> {
        MacroF1::new(self)
    }

    /// `auroc`
    pub fn auroc(&self) -> Auroc {
        Auroc::new(self)
    }

    /// `ece`
    pub fn ece(&self) -> Ece {
        Ece::new(self)
    }

    /// `brier_reliability`
    pub fn reliability(&self) -> Reliability {
        Reliability::new(self)
    }

    /// `brier_uncertainty`
    pub fn uncertainty(&self) -> Uncertainty<'_> {
        Uncertainty(self)
    }
}

/// `log softmax` of each row of `(n, k)`.
pub fn log_softmax(scores: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut out = scores.to_owned();
    for mut row in out.outer_iter_mut() {
        // The largest first: beside scores of 1e17 the logarithm of a sum is lost, and equal classes would all be
        // certain.
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|s| s - largest);
        let lse = logsumexp(row.iter().copied());
        row.mapv_inplace(|s| s - lse);
    }
    out
}

/// log Σ exp; -∞ of nothing.
pub(super) fn logsumexp(scores: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = scores.clone().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY { max } else { max + scores.map(|s| (s - max).exp()).sum::<f64>().ln() }
}

/// The place of the highest score; of equal ones the first.
pub(super) fn argmax(scores: impl Iterator<Item = f64>) -> usize {
    let higher = |best: (usize, f64), (i, s)| if s > best.1 { (i, s) } else { best };
    scores.enumerate().fold((0, f64::NEG_INFINITY), higher).0
}
