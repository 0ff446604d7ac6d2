//! Numbers with 95 % intervals: one policy for lenses and probes ([`Intervals`]).
//!
//! Tokens of one document (rows of one group) are alike, so documents are what an interval is over. What is asked of
//! one:
//!
//! | number | interval |
//! |---|---|
//! | means, ratios, differences, and other smooth functions of sums | delete-one-cluster jackknife with Student's t ([`jackknife`]) |
//! | shares (accuracy, agreement) and what else lies in 0..1 | Wilson's, with the design effect ([`share`]) |
//! | correlations | the jackknife's, symmetric for Fisher's z ([`correlation`]) |
//! | over two crossed kinds, directions and documents | both jackknifes, less what both count ([`Spread::crossed`]) |
//! | a ratio over two samples, the sharing score | Fieller's, from both jackknifes ([`ratio`]) |
//! | windows of one text | the same, widened for the correlation of neighbours ([`Spread::serial`]) |
//! | on request, as earlier versions had it | percentiles of a Poisson bootstrap ([`percentile`]) |
//!
//! An interval is not given when it could not keep its promise, and [`NoInterval`] says why.

mod correlation;
mod crossed;
mod jackknife;
mod percentile;
mod policy;
mod ratio;
mod wilson;

pub use correlation::correlation;
pub use crossed::interaction;
pub use jackknife::{NORMAL, Spread, jackknife, student};
pub use percentile::{percentile, quantile};
pub use policy::{Intervals, Method};
pub use ratio::{Covariance, ratio};
pub use wilson::share;

/// Effective clusters below which no interval is given: with fewer, nothing holds its 95 %.
pub const FEWEST: f64 = 5.0;

/// Effective clusters below which an interval is marked: it holds, but rests on little.
pub const FEW: f64 = 30.0;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// `estimate ± half`, where that is finite.
    fn around(estimate: f64, half: f64) -> Result<Self, NoInterval> {
        let (lower, upper) = (estimate - half, estimate + half);
        if lower.is_finite() && upper.is_finite() {
            Ok(Self { lower, upper })
        } else {
            Err(NoInterval::Undefined)
        }
    }

    /// The part that lies between the least and the most that the number can be: no value is given up that it could
    /// have.
    #[must_use]
    pub fn within(self, [least, most]: [f64; 2]) -> Self {
        Self { lower: self.lower.clamp(least, most), upper: self.upper.clamp(least, most) }
    }
}

/// Why a number has no interval. The words stand in the column `reason` of `metrics.parquet`.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoInterval {
    /// Too few documents (groups, prompts), counted by their effect.
    #[error("{n_eff:.1} effective clusters, fewer than 5")]
    FewClusters {
        /// As [`Estimate::n_eff`].
        n_eff: f64,
    },
    /// Every cluster says the same, so that nothing tells how far others would be.
    #[error("the same in every cluster")]
    Constant,
    /// Without one of the clusters (or in too many resamples) there is no value.
    #[error("undefined without some of the clusters")]
    Undefined,
    /// A ratio whose denominator is no further from 0 than other clusters might move it.
    #[error("its denominator may be 0")]
    Denominator,
    /// Bootstrap intervals without replicates.
    #[error("no replicates")]
    NoReplicates,
    /// No text or rows were sampled for it; the words say what it is.
    #[error("{0}")]
    NotSampled(&'static str),
}

/// A number with its 95 % interval and what they rest on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value on the corpus (of probes: the rows) itself.
    pub estimate: f64,
    /// Its interval, or why there is none.
    pub interval: Result<Interval, NoInterval>,
    /// Tokens or rows; of several count groups the smallest.
    pub n: u64,
    /// Documents or groups with a count; of several count groups the smallest.
    pub n_clusters: u64,
    /// Effective clusters `(Σ m)² / Σ m²` of sizes m: as many equal ones would inform as well (Carter, Schnepel &
    /// Steigerwald 2017, Rev. Econ. Stat. 99). Sums of a stream keep at most [`crate::MOST_BLOCKS`] apart, so that it
    /// is no more than that there.
    pub n_eff: f64,
}

impl Estimate {
    /// A number that was not sampled, with the words that say what it is.
    pub fn alone(estimate: f64, why: &'static str, n: u64) -> Self {
        Self { estimate, interval: Err(NoInterval::NotSampled(why)), n, n_clusters: 0, n_eff: 0.0 }
    }

    /// The interval's lower end.
    pub fn lower(&self) -> Option<f64> {
        self.interval.ok().map(|i| i.lower)
    }

    /// The interval's upper end.
    pub fn upper(&self) -> Option<f64> {
        self.interval.ok().map(|i| i.upper)
    }
}

/// `(Σ m)² / Σ m²`; 0 of nothing.
pub fn effective(sizes: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, squares) = sizes.into_iter().fold((0.0, 0.0), |(s, q), m| (s + m, q + m * m));
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}
