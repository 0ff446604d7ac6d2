//! What is read from a tally: means, intervals, contrasts.

use std::cell::RefCell;

use layerscope_probes::{
    Estimate, Interval, Intervals, Method, NoInterval,
    interval::{Covariance, Spread, correlation, jackknife, percentile, ratio, share},
};

use super::{clusters::Clusters, docs::DocSet, replicates::Replicates};

/// Columns per tile of the table: their running sums stay in registers.
pub(super) const TILE: usize = 16;

/// The reading side of a [`super::Tally`]. Columns are those of [`super::Tally::new`]; another number is a bug and
/// panics as an index does.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Count group of each column.
    columns: Vec<usize>,
    groups: Vec<Group>,
    intervals: Intervals,
    /// The point, then without each block or resampled.
    rows: usize,
    /// `[tile, row]` of `TILE` columns; the groups' counts come after the last column.
    table: Vec<[f64; TILE]>,
}

/// What a count group rests on.
#[derive(Debug, Clone, Copy)]
struct Group {
    n_clusters: u64,
    n_eff: f64,
}

/// The value of a function of column means, the least count behind it, and the count groups that it looks at.
struct Uses {
    estimate: f64,
    n: u64,
    groups: Vec<usize>,
}

/// Any function of the column means.
type Of<'f> = dyn Fn(&dyn Fn(usize) -> f64) -> f64 + 'f;

impl Scores {
    pub(super) fn without_each(
        columns: &[usize],
        docs: &[DocSet],
        clusters: &Clusters,
        intervals: Intervals,
    ) -> Self {
        let (rows, total) = (clusters.len() + 1, clusters.total());
        let mut table = vec![[0.0; TILE]; total.len().div_ceil(TILE) * rows];
        for (place, sum) in total.iter().enumerate() {
            let tile = &mut table[place / TILE * rows..];
            tile[0][place % TILE] = *sum;
            for (row, own) in tile[1..].iter_mut().zip(clusters.rows()) {
                row[place % TILE] = sum - own[place];
            }
        }
        let groups = groups(docs, |group| clusters.n_eff(columns.len() + group));
        Self { columns: columns.to_vec(), groups, intervals, rows, table }
    }

    pub(super) fn resampled(
        columns: &[usize],
        docs: &[DocSet],
        (replicates, sizes): (&mut Replicates, &Clusters),
        intervals: Intervals,
    ) -> Self {
        let groups = groups(docs, |group| sizes.n_eff(group));
        let (rows, table) = (replicates.rows(), replicates.table().to_vec());
        Self { columns: columns.to_vec(), groups, intervals, rows, table }
    }

    /// The mean over the corpus, `Σ s / Σ n`; NaN when nothing was counted.
    pub fn mean(&self, column: usize) -> f64 {
        self.at(0, column) / self.count(0, column)
    }

    /// [`Self::mean`] with its interval and the counts behind it.
    pub fn estimate(&self, column: usize) -> Estimate {
        self.contrast(|mean| mean(column))
    }

    /// As [`Self::estimate`] of a column that counts hits: the interval stays in 0..1 ([`share`]).
    pub fn share(&self, column: usize) -> Estimate {
        self.number(&|mean| mean(column), |estimate, spread, n| share(estimate, spread, n as f64))
    }

    /// [`Self::share`] of a unit that is `share`, else [`Self::estimate`].
    pub fn in_unit(&self, column: usize, unit: &str) -> Estimate {
        if unit == "share" { self.share(column) } else { self.estimate(column) }
    }

    /// Any function of the column means (a difference, a ratio of differences, an exponential) with its interval: `f`
    /// sees the means of the corpus, then those without each block of documents (or of each replicate), so that
    /// differences are paired by document.
    ///
    /// There is no interval when `f` has no value there.
    pub fn contrast(&self, f: impl Fn(&dyn Fn(usize) -> f64) -> f64) -> Estimate {
        self.number(&f, |estimate, spread, _| spread.around(estimate))
    }

    /// As [`Self::contrast`] of a correlation: the interval stays in -1..1 ([`correlation`]).
    pub fn correlation(&self, f: impl Fn(&dyn Fn(usize) -> f64) -> f64) -> Estimate {
        self.number(&f, |estimate, spread, _| correlation(estimate, spread))
    }

    /// As [`Self::contrast`], of a number that rests on a second, independent sample too, of which `f` knows nothing:
    /// its spread over that one's `clusters` adds to that over the documents here. A bootstrap is of the documents here
    /// alone.
    pub fn contrast_over_two(
        &self,
        f: impl Fn(&dyn Fn(usize) -> f64) -> f64,
        other: Result<Spread, NoInterval>,
        clusters: u64,
    ) -> Estimate {
        let number = self.number(&f, |estimate, spread, _| spread.and(other?).around(estimate));
        over_two(number, other, clusters)
    }

    /// As [`Self::contrast_over_two`], of a ratio whose denominator alone rests on the second sample, `other` being the
    /// spread of the denominator over that one: Fieller's interval ([`ratio`]).
    pub fn ratio_over_two(
        &self,
        top: impl Fn(&dyn Fn(usize) -> f64) -> f64,
        bottom: impl Fn(&dyn Fn(usize) -> f64) -> f64,
        other: Result<Spread, NoInterval>,
        clusters: u64,
    ) -> Estimate {
        let quotient = |mean: &dyn Fn(usize) -> f64| top(mean) / bottom(mean);
        let number = self.number(&quotient, |_, spread, _| {
            let other = other?;
            let used = self.uses(&quotient).groups;
            let plain = jackknife(&self.left_out(&quotient, &used), spread.n_eff)?.variance;
            let here = Covariance::jackknife(
                &self.left_out(&top, &used),
                &self.left_out(&bottom, &used),
                spread.n_eff,
            )?;
            // Windows of one text: what their likeness does to the quotient's variance it does to its parts'.
            let here = if plain > 0.0 { here.times(spread.variance / plain) } else { here };
            let values = [top(&|column| self.mean(column)), bottom(&|column| self.mean(column))];
            let both = Covariance { second: here.second + other.variance, ..here };
            ratio(values, both, spread.n_eff.min(other.n_eff))
        });
        over_two(number, other, clusters)
    }

    /// `make` makes the interval of an estimate, a spread and a number of tokens.
    pub(super) fn number(
        &self,
        f: &Of<'_>,
        make: impl Fn(f64, Spread, u64) -> Result<Interval, NoInterval>,
    ) -> Estimate {
        let Uses { estimate, n, groups: used } = self.uses(f);
        if used.is_empty() {
            return Estimate::alone(estimate, "a function of no column", 0);
        }
        let n_clusters = used.iter().map(|g| self.groups[*g].n_clusters).min().unwrap_or(0);
        let n_eff = used.iter().map(|g| self.groups[*g].n_eff).fold(f64::INFINITY, f64::min);
        let of = |interval, n_eff| Estimate { estimate, interval, n, n_clusters, n_eff };
        match self.intervals.method() {
            Method::Bootstrap if n_clusters < 2 => of(Err(NoInterval::FewClusters { n_eff }), n_eff),
            Method::Bootstrap => of(percentile(self.replicates(f), 0.0), n_eff),
            Method::Jackknife => match self.spread(f, &used, n_eff) {
                // Neighbours that are alike leave fewer than their sizes say.
                Ok(spread) => of(make(estimate, spread, n), spread.n_eff),
                Err(NoInterval::FewClusters { n_eff }) => of(Err(NoInterval::FewClusters { n_eff }), n_eff),
                Err(why) => of(Err(why), n_eff),
            },
        }
    }

    /// `f` of the corpus, and what it looks at.
    fn uses(&self, f: &Of<'_>) -> Uses {
        let (n, used) = (RefCell::new(f64::INFINITY), RefCell::new(Vec::new()));
        let estimate = f(&|column| {
            let count = self.count(0, column);
            n.replace_with(|least| least.min(count));
            used.borrow_mut().push(self.columns[column]);
            self.at(0, column) / count
        });
        let mut groups = used.into_inner();
        groups.sort_unstable();
        groups.dedup();
        Uses { estimate, n: n.into_inner().round() as u64, groups }
    }

    /// `f` without each block that has a count in one of the groups.
    fn left_out(&self, f: &Of<'_>, used: &[usize]) -> Vec<f64> {
        self.counted(used).map(|row| f(&|column| self.mean_at(row, column))).collect()
    }

    /// The jackknife's spread over the blocks that have a count in one of the groups.
    fn spread(&self, f: &Of<'_>, used: &[usize], n_eff: f64) -> Result<Spread, NoInterval> {
        let left_out = self.left_out(f, used);
        let spread = jackknife(&left_out, n_eff)?;
        if self.intervals.is_serial() { spread.serial(&left_out) } else { Ok(spread) }
    }

    /// Rows without a block that has a count in one of the groups.
    pub(super) fn counted(&self, used: &[usize]) -> impl Iterator<Item = usize> {
        let places = move |row: &usize| {
            used.iter()
                .map(|group| self.columns.len() + group)
                .any(|place| self.at(*row, place) != self.at(0, place))
        };
        (1..self.rows).filter(places)
    }

    /// The mean of the corpus (row 0), without a block, or of a replicate.
    pub(super) fn mean_at(&self, row: usize, column: usize) -> f64 {
        self.at(row, column) / self.count(row, column)
    }

    pub(super) fn group(&self, column: usize) -> usize {
        self.columns[column]
    }

    pub(super) fn method(&self) -> Method {
        self.intervals.method()
    }

    /// `f` of each replicate that drew a document of every group.
    fn replicates(&self, f: &Of<'_>) -> Vec<f64> {
        let value = |row: usize| {
            let empty = RefCell::new(false);
            let value = f(&|column| {
                let count = self.count(row, column);
                empty.replace_with(|empty| *empty || count == 0.0);
                self.at(row, column) / count
            });
            (!empty.into_inner()).then_some(value)
        };
        (1..self.rows).filter_map(value).collect()
    }

    fn count(&self, row: usize, column: usize) -> f64 {
        self.at(row, self.columns.len() + self.columns[column])
    }

    fn at(&self, row: usize, place: usize) -> f64 {
        self.table[place / TILE * self.rows + row][place % TILE]
    }
}

/// A number over the documents here, with what rests on a second sample put in.
fn over_two(number: Estimate, other: Result<Spread, NoInterval>, clusters: u64) -> Estimate {
    let n_eff = match other {
        Ok(spread) => number.n_eff.min(spread.n_eff),
        Err(NoInterval::FewClusters { n_eff }) => number.n_eff.min(n_eff),
        Err(_) => number.n_eff,
    };
    Estimate { n_eff, n_clusters: number.n_clusters + clusters, ..number }
}

fn groups(docs: &[DocSet], n_eff: impl Fn(usize) -> f64) -> Vec<Group> {
    docs.iter()
        .enumerate()
        .map(|(group, docs)| Group { n_clusters: docs.len(), n_eff: n_eff(group) })
        .collect()
}
