//! Numbers over two kinds of clusters that are crossed: documents, and items (directions) that every document tells
//! about.

use layerscope_probes::{
    Estimate, Interval, Method, NoInterval,
    interval::{FEWEST, Spread, correlation, interaction, jackknife},
};

use super::Scores;

/// An item's column means.
pub type Item<const K: usize> = [f64; K];

/// Why there is no interval of fewer.
const FEW_ITEMS: &str = "fewer than 5 directions";

impl Scores {
    /// A function of items, each of them `K` columns, with an interval over documents and items both: how far the
    /// number would be of other documents and other items ([`Spread::crossed`]). `n_eff` is the lesser of documents'
    /// and items'.
    ///
    /// Of a bootstrap ([`Method::Bootstrap`]) the items stay, as in earlier versions.
    pub fn crossed<const K: usize>(&self, items: &[[usize; K]], f: impl Fn(&[Item<K>]) -> f64) -> Estimate {
        self.over_both(items, &f, |estimate, spread| spread.around(estimate))
    }

    /// As [`Self::crossed`] of a correlation: the interval stays in -1..1.
    pub fn crossed_correlation<const K: usize>(
        &self,
        items: &[[usize; K]],
        f: impl Fn(&[Item<K>]) -> f64,
    ) -> Estimate {
        self.over_both(items, &f, correlation)
    }

    fn over_both<const K: usize>(
        &self,
        items: &[[usize; K]],
        f: &dyn Fn(&[Item<K>]) -> f64,
        make: impl Fn(f64, Spread) -> Result<Interval, NoInterval>,
    ) -> Estimate {
        let whole = |mean: &dyn Fn(usize) -> f64| {
            let values: Vec<Item<K>> = items.iter().map(|columns| columns.map(mean)).collect();
            f(&values)
        };
        let k = items.len() as f64;
        let number = self.number(&whole, |estimate, documents, _| {
            if k < FEWEST {
                return Err(NoInterval::NotSampled(FEW_ITEMS));
            }
            let directions = jackknife(&self.without_each_item(items, f), k)?;
            let both = interaction(&self.without_each_cell(items, f));
            make(estimate, documents.crossed(directions, both))
        });
        let items_too = self.method() == Method::Jackknife;
        Estimate { n_eff: if items_too { number.n_eff.min(k) } else { number.n_eff }, ..number }
    }

    fn without_each_item<const K: usize>(
        &self,
        items: &[[usize; K]],
        f: &dyn Fn(&[Item<K>]) -> f64,
    ) -> Vec<f64> {
        let all = self.items_at(0, items);
        (0..all.len()).map(|gone| f(&[&all[..gone], &all[gone + 1..]].concat())).collect()
    }

    /// Without each block of documents in each item alone, `[item][block]`.
    fn without_each_cell<const K: usize>(
        &self,
        items: &[[usize; K]],
        f: &dyn Fn(&[Item<K>]) -> f64,
    ) -> Vec<Vec<f64>> {
        let used: Vec<usize> = items.iter().flatten().map(|column| self.group(*column)).collect();
        let blocks: Vec<Vec<Item<K>>> = self.counted(&used).map(|row| self.items_at(row, items)).collect();
        let mut values = self.items_at(0, items);
        let cell = |(i, values): (usize, &mut Vec<Item<K>>)| -> Vec<f64> {
            let own = values[i];
            let without = |block: &Vec<Item<K>>| {
                values[i] = block[i];
                f(values)
            };
            let found = blocks.iter().map(without).collect();
            values[i] = own;
            found
        };
        (0..items.len()).map(|i| cell((i, &mut values))).collect()
    }

    fn items_at<const K: usize>(&self, row: usize, items: &[[usize; K]]) -> Vec<Item<K>> {
        items.iter().map(|columns| columns.map(|column| self.mean_at(row, column))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        draw::normal,
        statistics::{Intervals, NoInterval, Scores, Tally, spearman},
    };

    /// Columns `2 i` and `2 i + 1` of direction i: x + noise and y + noise of each document.
    fn scores(run: u64, (k, n): (usize, u64), [rho, noise]: [f64; 2], intervals: Intervals) -> Scores {
        // Seeds apart: draws of neighbouring seeds are shared.
        let of = |i: usize, what: u64| normal(run << 32, 1 + i as u64, what);
        let y = |i: usize| rho * of(i, 0) + (1.0 - rho * rho).sqrt() * of(i, 1);
        let mut tally = Tally::new(vec![0; 2 * k], 1, intervals).unwrap();
        for document in 0..n {
            let own = |i: usize, what: u64| noise * of(i, 2 + 2 * document + what);
            let sums: Vec<f64> = (0..k).flat_map(|i| [of(i, 0) + own(i, 0), y(i) + own(i, 1)]).collect();
            tally.add(document, &sums, &[1.0]).unwrap();
        }
        tally.scores().clone()
    }

    fn items(k: usize) -> Vec<[usize; 2]> {
        (0..k).map(|i| [2 * i, 2 * i + 1]).collect()
    }

    fn rank(items: &[[f64; 2]]) -> f64 {
        spearman(&items.iter().map(|[x, y]| (*x, *y)).collect::<Vec<_>>())
    }

    /// Spearman's rho of a normal pair of correlation r is `6/π asin(r/2)`; noise of documents, of deviation s over n
    /// of them, takes r down to `r / (1 + s²/n)`. Of 300 runs .95 has a standard error of .013, .94 is as good as can
    /// be asked of a rank correlation of few: .90 to .985 is three of them.
    #[test]
    fn a_rank_correlation_over_directions_and_documents_is_covered() {
        for (k, n, rho, noise) in [(40, 12, 0.7, 1.0), (20, 20, 0.5, 1.0), (12, 10, 0.8, 0.3)] {
            let truth = 6.0 / std::f64::consts::PI * (rho / (1.0 + noise * noise / n as f64) / 2.0).asin();
            let (mut covered, mut held, runs) = (0, 0, 300);
            for run in 0..runs {
                let scores = scores(run, (k, n), [rho, noise], Intervals::default());
                let both = scores.crossed_correlation(&items(k), rank);
                let interval = both.interval.unwrap();
                covered += u64::from((interval.lower..=interval.upper).contains(&truth));
                let one =
                    scores.contrast(|mean| rank(&items(k).iter().map(|c| c.map(mean)).collect::<Vec<_>>()));
                held += u64::from(one.interval.is_ok_and(|i| (i.lower..=i.upper).contains(&truth)));
                assert_eq!((one.estimate, both.n_eff), (both.estimate, (k as f64).min(n as f64)));
            }
            let share = covered as f64 / runs as f64;
            assert!((0.90..=0.985).contains(&share), "{k} by {n}: {share}");
            // Directions held fixed are what it must not be.
            assert!(held + runs / 10 < covered, "{k} by {n}: {held} {covered}");
        }
    }

    #[test]
    fn few_directions_or_documents_have_no_interval() {
        let of =
            |k: usize, n: u64| scores(3, (k, n), [0.5, 1.0], Intervals::default()).crossed(&items(k), rank);
        assert_eq!(of(4, 9).interval, Err(NoInterval::NotSampled("fewer than 5 directions")));
        assert_eq!(of(9, 4).interval, Err(NoInterval::FewClusters { n_eff: 4.0 }));
        assert_eq!(of(5, 9).n_eff, 5.0);
        // Percentiles of documents, as they were.
        let old = scores(3, (4, 9), [0.5, 1.0], Intervals::bootstrap(1, 200)).crossed(&items(4), rank);
        assert!(old.interval.is_ok() && old.n_eff == 9.0);
    }
}
