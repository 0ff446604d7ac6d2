//! 95 % intervals over groups: rows of one document are alike, so documents are what is resampled ([`Resamples`]).
//!
//! Every number is drawn with the same resamples of the same rows, so that differences (between layers, between a task and
//! its control) are paired: [`Draws::minus`].

mod draws;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::groups::Groups;
use crate::score::Metric;
use crate::{Error, Resamples};

pub(crate) use draws::quantile;
pub use draws::{Draws, Estimate};

/// Replicates whose weights are drawn together.
const BLOCK: usize = 64;

/// Resamples of the rows of one test set. Memory is one byte per group and replicate.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    groups: Groups,
    replicates: usize,
    /// `[replicates, groups]`
    weights: Vec<u8>,
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
        let mut weights = vec![0; groups.len() * replicates];
        weights.par_chunks_mut(groups.len() * BLOCK).enumerate().for_each(|(block, out)| {
            for (group, drawn) in drawn.iter().enumerate() {
                for (row, &weight) in out.chunks_exact_mut(groups.len()).zip(&drawn[block * BLOCK..]) {
                    row[group] = weight;
                }
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
        let replicates = self.weights.par_chunks(self.groups.len());
        let replicates =
            replicates.map(|weights| weighted_mean(&of_group, |group| f64::from(weights[group])));
        Ok(self.draws(weighted_mean(&of_group, |_| 1.0), replicates.collect()))
    }

    /// Any metric of the same rows.
    ///
    /// # Errors
    /// [`Error::Length`]
    pub fn metric(&self, metric: &dyn Metric) -> Result<Draws, Error> {
        self.fits(metric.rows())?;
        let buffer = || vec![0.0; metric.rows()];
        let replicates = self.weights.par_chunks(self.groups.len()).map_init(buffer, |of_row, weights| {
            of_row
                .iter_mut()
                .zip(&self.groups.of_row)
                .for_each(|(row, &group)| *row = f64::from(weights[group]));
            metric.value(of_row)
        });
        Ok(self.draws(metric.point(), replicates.collect()))
    }

    fn draws(&self, value: f64, replicates: Vec<f64>) -> Draws {
        debug_assert_eq!(replicates.len(), self.replicates);
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
fn weighted_mean(of_group: &[[f64; 2]], weight: impl Fn(usize) -> f64) -> f64 {
    let add = |[sum, n]: [f64; 2], (group, of): (usize, &[f64; 2])| {
        let w = weight(group);
        [sum + w * of[0], n + w * of[1]]
    };
    let [sum, n] = of_group.iter().enumerate().fold([0.0; 2], add);
    sum / n
}
