//! Numbers with their values under other weightings of the clusters.

use std::sync::Arc;

use super::blocks::Blocks;
use crate::Error;
use crate::interval::{
    Estimate, Interval, Intervals, Method, NORMAL, NoInterval, Spread, jackknife, percentile, share, student,
};

/// Bootstrap replicates without a value (no row drawn, one class drawn) are left out; there is no interval when they
/// are more than this (of four groups, 1.8 % draw none).
const UNDEFINED: f64 = 0.01;

/// A number on the rows themselves and under each weighting of their clusters: without each block in turn, or
/// resampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// On the rows themselves.
    pub value: f64,
    /// Under each weighting; NaN where undefined. Empty for a number that was not sampled.
    pub values: Vec<f64>,
    /// Rows.
    pub n: u64,
    /// Groups.
    pub n_clusters: u64,
    pub(super) form: Form,
    pub(super) blocks: Arc<Blocks>,
    pub(super) intervals: Intervals,
}

/// What kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Any.
    Plain,
    /// In 0..1, whose interval stays there.
    Share,
    /// Not sampled.
    Alone(&'static str),
}

impl Draws {
    /// The value with its interval.
    pub fn estimate(&self) -> Estimate {
        Estimate {
            estimate: self.value,
            interval: self.interval(),
            n: self.n,
            n_clusters: self.n_clusters,
            n_eff: self.blocks.n_eff(),
        }
    }

    fn interval(&self) -> Result<Interval, NoInterval> {
        let n_eff = self.blocks.n_eff();
        match (self.form, self.intervals.method()) {
            (Form::Alone(why), _) => Err(NoInterval::NotSampled(why)),
            (_, Method::Bootstrap) if self.n_clusters < 2 => Err(NoInterval::FewClusters { n_eff }),
            (_, Method::Bootstrap) => percentile(self.values.clone(), UNDEFINED),
            (Form::Plain, Method::Jackknife) => self.spread()?.around(self.value),
            (Form::Share, Method::Jackknife) => share(self.value, self.spread()?, self.n as f64),
        }
    }

    /// How far the value would be on other rows.
    ///
    /// # Errors
    /// As of its interval.
    pub(crate) fn spread(&self) -> Result<Spread, NoInterval> {
        let n_eff = self.blocks.n_eff();
        match (self.form, self.intervals.method()) {
            (Form::Alone(why), _) => Err(NoInterval::NotSampled(why)),
            (_, Method::Jackknife) => jackknife(&self.values, n_eff),
            (_, Method::Bootstrap) if n_eff <= 1.0 => Err(NoInterval::FewClusters { n_eff }),
            (_, Method::Bootstrap) => {
                let known: Vec<f64> = self.values.iter().copied().filter(|v| v.is_finite()).collect();
                let n = known.len() as f64;
                let mean = known.iter().sum::<f64>() / n;
                let variance = known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                if variance.is_finite() {
                    Ok(Spread { variance, n_eff })
                } else {
                    Err(NoInterval::NoReplicates)
                }
            }
        }
    }

    /// The paired difference. Both must come from one [`crate::Weightings`].
    ///
    /// # Errors
    /// [`Error::Unpaired`]
    pub fn minus(&self, other: &Self) -> Result<Self, Error> {
        self.paired_with(other)?;
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect();
        Ok(Self { value: self.value - other.value, values, form: self.form.changed(), ..self.clone() })
    }

    /// The value of another sign: of a loss, what is to be large.
    #[must_use]
    pub fn negated(&self) -> Self {
        self.map(|v| -v)
    }

    /// The values of a function of the number, such as the compression of a mean code length.
    #[must_use]
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let values = self.values.iter().map(|&v| f(v)).collect();
        Self { value: f(self.value), values, form: self.form.changed(), ..self.clone() }
    }

    /// A number about the same rows that was not sampled; the words say what it is.
    #[must_use]
    pub fn alone(&self, value: f64, why: &'static str) -> Self {
        Self { value, values: Vec::new(), form: Form::Alone(why), ..self.clone() }
    }

    /// The mean of numbers about parts of one set of rows, such as the test parts of several splits, with `n_clusters`
    /// different groups among them. Where a cluster is in none of a part's rows, the part's value does not change
    /// without it; in a bootstrap a part without a value in a resample is left out of it.
    ///
    /// # Errors
    /// [`Error::Empty`] of none, [`Error::Unpaired`] when their blocks are not of one set
    /// ([`crate::Weightings::part`]).
    pub fn mean(parts: &[Self], n_clusters: u64) -> Result<Self, Error> {
        let first = parts.first().ok_or(Error::Empty)?;
        if let Some(other) = parts.iter().find(|part| part.blocks.shift != first.blocks.shift) {
            let (expected, got) = (first.blocks.shift as usize, other.blocks.shift as usize);
            return Err(Error::Unpaired { what: "blocks", expected, got });
        }
        let defined = |values: &mut dyn Iterator<Item = f64>| {
            let finite = values.filter(|x| x.is_finite());
            let (sum, n) = finite.fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
            sum / n
        };
        let blocks = Blocks::union(parts.iter().map(|part| part.blocks.as_ref()));
        let values = if parts.iter().any(|part| part.values.is_empty()) {
            Vec::new()
        } else if first.intervals.method() == Method::Bootstrap {
            let replicates = parts.iter().map(|part| part.values.len()).min().unwrap_or(0);
            (0..replicates).map(|r| defined(&mut parts.iter().map(|part| part.values[r]))).collect()
        } else {
            let without =
                |id: &u64| parts.iter().map(|part| part.without(*id)).sum::<f64>() / parts.len() as f64;
            blocks.ids.iter().map(without).collect()
        };
        let value = parts.iter().map(|part| part.value).sum::<f64>() / parts.len() as f64;
        let n = parts.iter().map(|part| part.n).sum();
        Ok(Self { value, values, n, n_clusters, blocks: Arc::new(blocks), ..first.clone() })
    }

    /// The value without a block.
    fn without(&self, id: u64) -> f64 {
        self.blocks.ids.binary_search(&id).map_or(self.value, |place| self.values[place])
    }

    /// θ* - θ̂ of paired numbers, `[resamples][numbers]`, by which layers are compared: of a bootstrap its resamples;
    /// of a jackknife the influences of the blocks weighed by Poisson counts less 1 (a multiplier bootstrap:
    /// Chernozhukov, Chetverikov & Kato 2013, Ann. Stat. 41), as much wider as Student's t is than the normal.
    pub(crate) fn errors(numbers: &[Self]) -> Vec<Vec<f64>> {
        let Some(first) = numbers.first() else { return Vec::new() };
        if first.intervals.method() == Method::Bootstrap || first.values.is_empty() {
            let error = |r: usize| numbers.iter().map(|number| number.values[r] - number.value).collect();
            return (0..first.values.len()).map(error).collect();
        }
        let influences: Vec<Vec<f64>> = numbers.iter().map(Self::influences).collect();
        let resamples = first.intervals.resamples();
        let mut errors = vec![vec![0.0; numbers.len()]; resamples.replicates()];
        for (block, id) in first.blocks.ids.iter().enumerate() {
            for (errors, weight) in errors.iter_mut().zip(resamples.weights(*id)) {
                let weight = f64::from(weight) - 1.0;
                errors.iter_mut().zip(&influences).for_each(|(error, of)| *error += weight * of[block]);
            }
        }
        errors
    }

    /// How far each block moves the value.
    fn influences(&self) -> Vec<f64> {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let wider = student((self.blocks.n_eff() - 1.0).max(1.0)) / NORMAL;
        self.values.iter().map(|value| wider * (n - 1.0) / n * (mean - value)).collect()
    }

    pub(crate) fn paired_with(&self, other: &Self) -> Result<(), Error> {
        let counts = [
            ("rows", self.n as usize, other.n as usize),
            ("groups", self.n_clusters as usize, other.n_clusters as usize),
            ("replicates", self.values.len(), other.values.len()),
        ];
        match counts.into_iter().find(|(_, expected, got)| expected != got) {
            Some((what, expected, got)) => Err(Error::Unpaired { what, expected, got }),
            None => Ok(()),
        }
    }
}

impl Form {
    /// Of a function of the number.
    fn changed(self) -> Self {
        if self == Self::Share { Self::Plain } else { self }
    }
}
