//! Metrics of probes, each a function of row weights, so that intervals come from weighing rows anew
//! ([`crate::Bootstrap`]).
//!
//! Names as in the tables: `accuracy`, `macro_f1`, `auroc`, `nll`, `ece` of [`Classified`] rows, `r2` of predicted numbers.
//! All agree with scikit-learn; what is undefined (a mean of no rows, the AUROC of one class) is NaN.

mod auroc;
mod classified;
mod ece;
mod macro_f1;
mod r2;
#[cfg(test)]
mod tests;

pub use auroc::Auroc;
pub use classified::{Classified, log_softmax};
pub use ece::Ece;
pub use macro_f1::MacroF1;
pub use r2::R2;

/// A number about rows.
pub trait Metric: Sync {
    /// How many rows.
    fn rows(&self) -> usize;

    /// Its value when row i counts `weights[i]` times; `weights` is `(rows,)`, not negative. NaN where it is undefined.
    fn value(&self, weights: &[f64]) -> f64;

    /// Its value on the rows themselves.
    fn point(&self) -> f64 {
        self.value(&vec![1.0; self.rows()])
    }
}
