//! What is read from a tally: means, intervals, contrasts.

use std::cell::Cell;

use super::{Estimate, docs::DocSet};

/// Columns per tile of the table: their running sums stay in registers.
pub(super) const TILE: usize = 16;

/// The reading side of a [`super::Tally`]. Columns are those of [`super::Tally::new`]; another number is a bug and panics as an index does.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Count group of each column.
    pub(super) columns: Vec<usize>,
    /// Documents of each group.
    pub(super) docs: Vec<DocSet>,
    /// Replicates and the point.
    pub(super) rows: usize,
    /// `[tile, row]` of `TILE` columns; the groups' counts come after the last column.
    pub(super) table: Vec<[f64; TILE]>,
}

impl Scores {
    /// The mean over the corpus, `Σ s / Σ n`; NaN when nothing was counted.
    pub fn mean(&self, column: usize) -> f64 {
        self.at(0, column) / self.count(0, column)
    }

    /// 95 % percentile interval of the mean, the ratio `Σ w s / Σ w n` of each replicate; none with fewer than two documents.
    pub fn interval(&self, column: usize) -> Option<(f64, f64)> {
        let all = self.estimate(column);
        all.lower.zip(all.upper)
    }

    /// [`Self::mean`] and [`Self::interval`] with the counts behind them.
    pub fn estimate(&self, column: usize) -> Estimate {
        self.contrast(|mean| mean(column))
    }

    /// Any function of the column means (a difference, a ratio of differences, an exponential) with its percentile interval: `f` sees
    /// the means of the corpus, then those of each replicate, so that differences are paired by document.
    ///
    /// A replicate that drew none of a group's documents has no mean and is left out. There is no interval when `f` gives NaN in
    /// some replicate, or when a bound is infinite.
    pub fn contrast(&self, f: impl Fn(&dyn Fn(usize) -> f64) -> f64) -> Estimate {
        let (n, n_clusters) = (Cell::new(u64::MAX), Cell::new(u64::MAX));
        let estimate = f(&|column| {
            n.set(n.get().min(self.count(0, column).round() as u64));
            n_clusters.set(n_clusters.get().min(self.docs[self.columns[column]].len()));
            self.mean(column)
        });
        // A function of no column is known from no document.
        let [n, n_clusters] =
            [n, n_clusters].map(|least| if least.get() == u64::MAX { 0 } else { least.get() });
        let bounds = if n_clusters < 2 { None } else { self.bounds(f) };
        Estimate { estimate, lower: bounds.map(|b| b.0), upper: bounds.map(|b| b.1), n, n_clusters }
    }

    /// The 2.5 % and 97.5 % quantiles of `f` over replicates.
    fn bounds(&self, f: impl Fn(&dyn Fn(usize) -> f64) -> f64) -> Option<(f64, f64)> {
        let mut values = Vec::with_capacity(self.rows - 1);
        for row in 1..self.rows {
            let empty = Cell::new(false);
            let value = f(&|column| {
                let count = self.count(row, column);
                empty.set(empty.get() || count == 0.0);
                self.at(row, column) / count
            });
            if !empty.get() {
                values.push(value);
            }
        }
        values.sort_unstable_by(f64::total_cmp);
        let (first, last) = (values.first()?, values.last()?);
        let bounds = (quantile(&values, 0.025), quantile(&values, 0.975));
        let defined = !first.is_nan() && !last.is_nan() && bounds.0.is_finite() && bounds.1.is_finite();
        defined.then_some(bounds)
    }

    fn count(&self, row: usize, column: usize) -> f64 {
        self.at(row, self.columns.len() + self.columns[column])
    }

    fn at(&self, row: usize, place: usize) -> f64 {
        self.table[place / TILE * self.rows + row][place % TILE]
    }
}

/// Quantile of sorted values, linear between neighbours (definition 7 of Hyndman & Fan 1996, `numpy`'s default).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    if low == high { low } else { low + (high - low) * place.fract() }
}
