//! 95 % intervals over groups: rows of one document are alike, so documents are what is resampled ([`Resamples`]).
//!
//! Every number is drawn with the same resamples of the same rows, so that differences (between layers, between a task and
//! its control) are paired: [`Draws::minus`].

mod draws;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::groups::Groups;
use crate::score::{LANES, Lanes, Metric, add, each};
use crate::{Error, Resamples};

pub(crate) use draws::quantile;
pub use draws::{Draws, Estimate};

/// Resamples of the rows of one test set. Memory is one byte per group and replicate.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    groups: Groups,
    replicates: usize,
    /// `[replicates / LANES, groups]`; beyond the last replicate 0.
    weights: Vec<[u8; LANES]>,
}

impl Bootstrap {
    /// Of rows with these groups, one id per row.
    ///
    /// # Errors
    /// [`Error::Empty`]
    pub fn new(groups: &[u64], resamples: Resamples) -> Result<Self, Error> {
        if groups.is_empty() {
            return Err(Error::Empty);
        }
        let (groups, replicates) = (Groups::new(groups), resamples.replicates());
        let drawn: Vec<Vec<u8>> = groups.ids.par_iter().map(|&id| resamples.weights(id)).collect();
        let mut weights = vec![[0; LANES]; groups.len() * replicates.div_ceil(LANES)];
        weights.par_chunks_mut(groups.len()).enumerate().for_each(|(block, out)| {
            for (out, drawn) in out.iter_mut().zip(&drawn) {
                out.iter_mut().zip(&drawn[block * LANES..]).for_each(|(out, &weight)| *out = weight);
            }
        });
        Ok(Self { groups, replicates, weights })
    }

    /// The mean of one outcome per row.
    ///
    /// # Errors
    /// [`Error::Length`], and [`Error::NotFinite`] for an outcome that is NaN or infinite.
    pub fn mean(&self, outcomes: &[f64]) -> Result<Draws, Error> {
        self.fits(outcomes.len())?;
        if let Some(row) = outcomes.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { row });
        }
        let mut of_group = vec![[0.0; 2]; self.groups.len()];
        for (&group, outcome) in self.groups.of_row.iter().zip(outcomes) {
            of_group[group][0] += outcome;
            of_group[group][1] += 1.0;
        }
        let point = weighted_mean(&of_group, std::iter::repeat([1.0; LANES]))[0];
        let blocks = self.weights.par_chunks(self.groups.len());
        let blocks = blocks.map(|weights| weighted_mean(&of_group, weights.iter().map(|w| w.map(f64::from))));
        Ok(self.draws(point, blocks.collect()))
    }

    /// Any metric of the same rows.
    ///
    /// # Errors
    /// [`Error::Length`]
    pub fn metric(&self, metric: &dyn Metric) -> Result<Draws, Error> {
        self.fits(metric.rows())?;
        let buffer = || vec![Lanes::default(); metric.rows()];
        let blocks = self.weights.par_chunks(self.groups.len()).map_init(buffer, |of_row, weights| {
            for (row, &group) in of_row.iter_mut().zip(&self.groups.of_row) {
                *row = weights[group].map(f64::from);
            }
            metric.values(of_row)
        });
        Ok(self.draws(metric.point(), blocks.collect()))
    }

    fn draws(&self, value: f64, blocks: Vec<Lanes>) -> Draws {
        let mut replicates = blocks.into_flattened();
        replicates.truncate(self.replicates);
        Draws { value, replicates, n: self.groups.of_row.len() as u64, n_clusters: self.groups.len() as u64 }
    }

    fn fits(&self, rows: usize) -> Result<(), Error> {
        match self.groups.of_row.len() {
            labels if labels != rows => Err(Error::Length { rows, labels }),
            _ => Ok(()),
        }
    }
}

/// Σ w sum / Σ w n over groups of [sum, n].
fn weighted_mean(of_group: &[[f64; 2]], weights: impl Iterator<Item = Lanes>) -> Lanes {
    let [mut sum, mut n] = [Lanes::default(); 2];
    for (of, weight) in of_group.iter().zip(weights) {
        add(&mut sum, &weight, of[0]);
        add(&mut n, &weight, of[1]);
    }
    each(|lane| sum[lane] / n[lane])
}
