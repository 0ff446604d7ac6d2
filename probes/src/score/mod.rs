//! Metrics of probes, each a function of row weights, so that intervals come from weighing rows anew
//! ([`crate::Weightings`]).
//!
//! Names as in the tables: `accuracy`, `macro_f1`, `auroc`, `nll`, `ece`, `brier` and their parts of [`Classified`]
//! rows, `r2` of predicted numbers. All agree with scikit-learn or numpy; what is undefined (a mean of no rows, the
//! AUROC of one class) is NaN.

mod auroc;
mod brier;
mod classified;
mod ece;
mod macro_f1;
mod r2;
#[cfg(test)]
mod tests;

pub use auroc::Auroc;
pub use brier::{Reliability, Uncertainty};
pub use classified::{Classified, log_softmax};
pub use ece::{CalibratedEce, DebiasedEce, Ece};
pub use macro_f1::MacroF1;
pub use r2::R2;

use crate::Error;

/// How many weightings are taken at once: the compiler makes vector instructions of the loops over them.
pub const LANES: usize = 8;

/// A number for each of several weightings.
pub type Lanes = [f64; LANES];

/// A number about rows.
pub trait Metric: Sync {
    /// How many rows.
    fn rows(&self) -> usize;

    /// Its values under several weightings: in weighting l row i counts `weights[i][l]` times. `weights` is `(rows,)`,
    /// not negative. NaN where it is undefined.
    fn values(&self, weights: &[Lanes]) -> Lanes;

    /// Whether it lies in 0..1, as a share does, so that its interval should.
    fn is_share(&self) -> bool {
        false
    }

    /// Its value under one weighting, `(rows,)`.
    fn value(&self, weights: &[f64]) -> f64 {
        let same: Vec<Lanes> = weights.iter().map(|&weight| [weight; LANES]).collect();
        self.values(&same)[0]
    }

    /// Its value on the rows themselves.
    fn point(&self) -> f64 {
        self.value(&vec![1.0; self.rows()])
    }
}

/// 1 where the predicted class is the true one, `(n,)`: for baselines that have no scores.
///
/// # Errors
/// [`Error::Length`]
pub fn correct(predicted: &[u32], y: &[u32]) -> Result<Vec<f64>, Error> {
    if predicted.len() != y.len() {
        return Err(Error::Length { rows: predicted.len(), labels: y.len() });
    }
    Ok(predicted.iter().zip(y).map(|(a, b)| f64::from(u8::from(a == b))).collect())
}

/// `f` of each lane.
pub(crate) fn each(f: impl Fn(usize) -> f64) -> Lanes {
    std::array::from_fn(f)
}

/// `sum += weight · value`
pub(crate) fn add(sum: &mut Lanes, weight: &Lanes, value: f64) {
    sum.iter_mut().zip(weight).for_each(|(sum, weight)| *sum += weight * value);
}
