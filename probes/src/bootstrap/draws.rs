//! Numbers with their resampled values.

use crate::Error;

/// Replicates without a value (no row drawn, one class drawn) are left out; there is no interval when they are more than this.
const UNDEFINED: f64 = 0.01;

/// A number with its 95 % percentile interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value on the corpus (of probes: the rows) itself.
    pub estimate: f64,
    /// The 2.5 % quantile over replicates; none with fewer than two groups, without replicates, or (of probes) when more
    /// than 1 % of them have no value (of four groups, 1.8 % draw none).
    pub lower: Option<f64>,
    /// The 97.5 % quantile.
    pub upper: Option<f64>,
    /// Tokens or rows; of several count groups the smallest.
    pub n: u64,
    /// Documents or groups with a count; of several count groups the smallest.
    pub n_clusters: u64,
}

/// A number on the rows themselves and on each resample of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// On the rows themselves.
    pub value: f64,
    /// On each resample; NaN where undefined.
    pub replicates: Vec<f64>,
    /// Rows.
    pub n: u64,
    /// Groups.
    pub n_clusters: u64,
}

impl Draws {
    /// The value with its interval.
    pub fn estimate(&self) -> Estimate {
        let bounds = if self.n_clusters < 2 { None } else { self.bounds() };
        Estimate {
            estimate: self.value,
            lower: bounds.map(|b| b.0),
            upper: bounds.map(|b| b.1),
            n: self.n,
            n_clusters: self.n_clusters,
        }
    }

    /// The paired difference. Both must come from one [`crate::Bootstrap`].
    ///
    /// # Errors
    /// [`Error::Unpaired`]
    pub fn minus(&self, other: &Self) -> Result<Self, Error> {
        self.paired_with(other)?;
        let replicates = self.replicates.iter().zip(&other.replicates).map(|(a, b)| a - b).collect();
        Ok(Self { value: self.value - other.value, replicates, ..*self })
    }

    /// The value of another sign: of a loss, what is to be large.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self { value: -self.value, replicates: self.replicates.iter().map(|v| -v).collect(), ..*self }
    }

    /// The values of a function of the number, such as the compression of a mean code length.
    #[must_use]
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { value: f(self.value), replicates: self.replicates.iter().map(|&v| f(v)).collect(), ..*self }
    }

    pub(crate) fn paired_with(&self, other: &Self) -> Result<(), Error> {
        let counts = [
            ("rows", self.n as usize, other.n as usize),
            ("groups", self.n_clusters as usize, other.n_clusters as usize),
            ("replicates", self.replicates.len(), other.replicates.len()),
        ];
        match counts.into_iter().find(|(_, expected, got)| expected != got) {
            Some((what, expected, got)) => Err(Error::Unpaired { what, expected, got }),
            None => Ok(()),
        }
    }

    fn bounds(&self) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = self.replicates.iter().copied().filter(|v| !v.is_nan()).collect();
        let undefined = self.replicates.len() - values.len();
        if values.is_empty() || undefined as f64 > UNDEFINED * self.replicates.len() as f64 {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let bounds = (quantile(&values, 0.025), quantile(&values, 0.975));
        (bounds.0.is_finite() && bounds.1.is_finite()).then_some(bounds)
    }
}

/// Quantile of sorted values, linear between neighbours (definition 7 of Hyndman & Fan 1996, `numpy`'s default).
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    if low == high { low } else { low + (high - low) * place.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(replicates: Vec<f64>, n_clusters: u64) -> Draws {
        Draws { value: 3.0, replicates, n: 9, n_clusters }
    }

    #[test]
    fn one_group_has_no_interval_and_two_have() {
        let of = |n_clusters| draws(vec![1.0, 2.0], n_clusters).estimate().lower;
        assert_eq!([0, 1, 2, 3].map(of), [None, None, Some(1.025), Some(1.025)]);
    }

    /// One of a hundred may be undefined, two may not.
    #[test]
    fn undefined_replicates_are_left_out_up_to_one_in_a_hundred() {
        let with = |undefined: usize| {
            let mut replicates = vec![1.0; 100];
            replicates[..undefined].fill(f64::NAN);
            draws(replicates, 5).estimate().upper
        };
        assert_eq!([0, 1, 2].map(with), [Some(1.0), Some(1.0), None]);
        for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
            let estimate = draws([vec![1.0; 40], vec![infinite; 60]].concat(), 5).estimate();
            assert_eq!((estimate.lower, estimate.upper), (None, None));
        }
        assert_eq!(draws(vec![1.0, f64::INFINITY], 5).estimate().lower, None);
        assert_eq!(draws([vec![1.0; 96], vec![f64::INFINITY; 4]].concat(), 5).estimate().lower, None);
    }

    #[test]
    fn a_function_is_of_the_value_and_of_every_replicate() {
        let twice = draws(vec![1.0, -2.0], 4).map(|v| 2.0 * v);
        assert_eq!(twice, Draws { value: 6.0, replicates: vec![2.0, -4.0], n: 9, n_clusters: 4 });
    }
}
