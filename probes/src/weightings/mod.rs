//! Numbers under other weightings of the groups: rows of one group are alike, so groups are what intervals are over.
//!
//! Every number about the same rows is weighed in the same ways, so that differences (between layers, between a task
//! and its control) are paired: [`Draws::minus`].

mod blocks;
mod draws;
mod neighbours;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rayon::prelude::*;

use crate::Error;
use crate::groups::Groups;
use crate::interval::{Intervals, Method};
use crate::score::{LANES, Lanes, Metric, add, each};

use blocks::Blocks;
pub use draws::Draws;
use draws::Form;
pub use neighbours::{MOST_BLOCKS, Neighbours};

/// The weightings of the rows of one test set: each block of groups left out in turn, or the resamples of a bootstrap
/// (memory: one byte per group and replicate).
#[derive(Debug, Clone)]
pub struct Weightings {
    groups: Groups,
    blocks: Arc<Blocks>,
    intervals: Intervals,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    /// The block of each group, by place: in weighting b the rows of block b count nothing, all others once.
    LeftOut(Vec<usize>),
    /// `[replicates / LANES, groups]`; beyond the last replicate 0.
    Drawn { replicates: usize, of_group: Vec<[u8; LANES]> },
}

impl Weightings {
    /// Of rows with these groups, one id per row.
    ///
    /// # Errors
    /// [`Error::Empty`]
    pub fn new(groups: &[u64], intervals: Intervals) -> Result<Self, Error> {
        Self::of(groups, Blocks::shift_for(groups), intervals)
    }

    /// Of some of the rows that this one is of: in the same blocks, so that numbers about several parts may be put
    /// together ([`Draws::mean`]).
    ///
    /// # Errors
    /// [`Error::Empty`]
    pub fn part(&self, groups: &[u64]) -> Result<Self, Error> {
        Self::of(groups, self.blocks.shift, self.intervals)
    }

    fn of(rows: &[u64], shift: u32, intervals: Intervals) -> Result<Self, Error> {
        if rows.is_empty() {
            return Err(Error::Empty);
        }
        let (groups, blocks) = (Groups::new(rows), Blocks::new(rows, shift));
        let weights = match intervals.method() {
            Method::Jackknife => Weights::LeftOut(groups.ids.iter().map(|id| blocks.place(*id)).collect()),
            Method::Bootstrap => drawn(&groups, intervals),
        };
        Ok(Self { groups, blocks: Arc::new(blocks), intervals, weights })
    }

    /// The mean of one outcome per row; of outcomes that are all 0 or 1 a share.
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
        let weightings = (0..self.weightings().div_ceil(LANES)).into_par_iter();
        let values = weightings.map(|chunk| {
            weighted_mean(&of_group, (0..self.groups.len()).map(|group| self.weight(chunk, group)))
        });
        let form = if outcomes.iter().all(|x| *x == 0.0 || *x == 1.0) { Form::Share } else { Form::Plain };
        Ok(self.draws(point, values.collect(), form))
    }

    /// Any metric of the same rows.
    ///
    /// # Errors
    /// [`Error::Length`]
    pub fn metric(&self, metric: &dyn Metric) -> Result<Draws, Error> {
        self.fits(metric.rows())?;
        let buffer = || vec![Lanes::default(); metric.rows()];
        let weightings = (0..self.weightings().div_ceil(LANES)).into_par_iter();
        let values = weightings.map_init(buffer, |of_row, chunk| {
            for (row, &group) in of_row.iter_mut().zip(&self.groups.of_row) {
                *row = self.weight(chunk, group);
            }
            metric.values(of_row)
        });
        let form = if metric.is_share() { Form::Share } else { Form::Plain };
        Ok(self.draws(metric.point(), values.collect(), form))
    }

    fn weightings(&self) -> usize {
        match &self.weights {
            Weights::LeftOut(_) => self.blocks.ids.len(),
            Weights::Drawn { replicates, .. } => *replicates,
        }
    }

    /// A group's weights in the weightings of a chunk.
    fn weight(&self, chunk: usize, group: usize) -> Lanes {
        match &self.weights {
            Weights::LeftOut(blocks) => {
                each(|lane| f64::from(u8::from(blocks[group] != chunk * LANES + lane)))
            }
            Weights::Drawn { of_group, .. } => of_group[chunk * self.groups.len() + group].map(f64::from),
        }
    }

    fn draws(&self, value: f64, values: Vec<Lanes>, form: Form) -> Draws {
        let mut values = values.into_flattened();
        values.truncate(self.weightings());
        let (n, n_clusters) = (self.groups.of_row.len() as u64, self.groups.len() as u64);
        let (blocks, intervals) = (Arc::clone(&self.blocks), self.intervals);
        Draws { value, values, n, n_clusters, form, blocks, intervals }
    }

    fn fits(&self, rows: usize) -> Result<(), Error> {
        match self.groups.of_row.len() {
            labels if labels != rows => Err(Error::Length { rows, labels }),
            _ => Ok(()),
        }
    }
}

/// How often each group is drawn in each replicate.
fn drawn(groups: &Groups, intervals: Intervals) -> Weights {
    let resamples = intervals.resamples();
    let replicates = resamples.replicates();
    let drawn: Vec<Vec<u8>> = groups.ids.par_iter().map(|&id| resamples.weights(id)).collect();
    let mut of_group = vec![[0; LANES]; groups.len() * replicates.div_ceil(LANES)];
    of_group.par_chunks_mut(groups.len()).enumerate().for_each(|(block, out)| {
        for (out, drawn) in out.iter_mut().zip(&drawn) {
            out.iter_mut().zip(&drawn[block * LANES..]).for_each(|(out, &weight)| *out = weight);
        }
    });
    Weights::Drawn { replicates, of_group }
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
