//! Probes over activations: what a linear reader can find in a layer, and what that shows.
//!
//! Rows are `(n, d)` in f32 and know nothing of models, files or torch. A [`Fit`] holds the parameters of an estimator
//! and makes a [`Probe`]; the two are different types, so that nothing unfitted can be asked for scores.

mod best;
mod ccs;
mod centroid;
mod control;
mod draw;
mod error;
mod features;
#[cfg(test)]
mod golden;
mod groups;
mod hessian;
pub mod interval;
mod labels;
mod law;
mod lbfgs;
mod lda;
mod linalg;
mod linear;
mod logistic;
mod loss;
mod mdl;
mod mean_difference;
mod moments;
mod over_draws;
mod permutation;
mod relabel;
mod resample;
mod ridge;
pub mod score;
mod shared_texts;
mod spectrum;
mod split;
mod standardise;
mod token_identity;
mod weightings;

pub use ndarray;
use ndarray::{Array2, ArrayView2};

pub use best::{Best, best, chosen};
pub use ccs::{Ccs, PairDirection, PairProbe, Pairs};
pub use centroid::Centroid;
pub use control::{ControlTask, compact, selectivity, shuffled_labels};
pub use draw::shuffle;
pub use error::{Class, Error};
pub use features::{Csr, Dense, Features};
pub use interval::{Estimate, Interval, Intervals, Method, NoInterval};
pub use law::{Decay, Residual, cross_validated, residual};
pub use lbfgs::{Convergence, Memory, Objective, Stop, minimise};
pub use lda::{Lda, Shrinkage};
pub use linear::{Linear, Link};
pub use logistic::{Logistic, LogisticProbe};
pub use mdl::{CodeLength, Message, PORTIONS, online_code, shuffled_codes};
pub use mean_difference::MeanDifference;
pub use moments::Moments;
pub use over_draws::over_draws;
pub use permutation::{Exchange, Permutations, max_p_values, p_value};
pub use relabel::ClassSums;
pub use resample::Resamples;
pub use ridge::{Ridge, least_squares};
pub use shared_texts::{SharedTexts, shared_texts};
pub use spectrum::{Spectrum, Whitened};
pub use split::{Fold, Part, Shares, Split, folds};
pub use standardise::Standardise;
pub use token_identity::{TokenColumns, TypeMajority, majority};
pub use weightings::{Draws, MOST_BLOCKS, Neighbours, Weightings};

/// A fitted probe.
pub trait Probe: Send + Sync {
    /// Scores of the rows `x` `(n, d)`: `(n, k)` in f64. For classes, higher is likelier (log-probabilities where the
    /// estimator has them); for numbers, the predicted values.
    ///
    /// # Errors
    /// When `x` has another width than the rows it was fitted on.
    fn scores(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>, Error>;
}

/// What a probe is fitted to.
#[derive(Debug, Clone, Copy)]
pub enum Labels<'a> {
    /// A class per row, below `n_classes`.
    Classes {
        /// `(n,)`
        y: &'a [u32],
        /// Number of classes.
        n_classes: usize,
    },
    /// Numbers per row, `(n, k)`.
    Numbers(ArrayView2<'a, f64>),
}

impl Labels<'_> {
    /// The same labels, for a shorter time.
    pub fn view(&self) -> Labels<'_> {
        match self {
            Self::Classes { y, n_classes } => Labels::Classes { y, n_classes: *n_classes },
            Self::Numbers(y) => Labels::Numbers(y.view()),
        }
    }
}

/// Rows with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// `(n, d)`
    pub x: ArrayView2<'a, f32>,
    /// One per row.
    pub y: Labels<'a>,
}

/// The parameters of an estimator.
pub trait Fit {
    /// The fitted probe.
    type Fitted: Probe;

    /// Fits to `data`.
    ///
    /// # Errors
    /// When the labels do not suit the estimator or the rows, a value is not finite, a class has no row, or a system
    /// cannot be solved.
    fn fit(&self, data: &Labelled<'_>) -> Result<Self::Fitted, Error>;
}
