//! Documents in few blocks, for a jackknife of numbers whose sums are matrices.

use std::collections::BTreeMap;

use layerscope_probes::{
    Interval, Intervals, Method, NoInterval,
    interval::{effective, jackknife},
};

/// Most blocks that are kept apart: more would narrow an interval by less than 2 % (t(31) over the normal quantile is
/// 1.04).
pub const MOST_APART: usize = 32;

/// Why `--interval bootstrap` gives no interval of a number whose sums are matrices.
pub const NO_BOOTSTRAP: NoInterval = NoInterval::NotSampled("not resampled: its interval is the jackknife's");

/// Documents in blocks of neighbours of about as many tokens each; where there are no more documents than blocks, each
/// is one.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    of: BTreeMap<u64, usize>,
    /// Tokens of each block.
    sizes: Vec<f64>,
}

impl Blocks {
    /// Of documents (or windows), each given with a number of tokens, in parts or whole; at most `most` blocks.
    pub fn new(tokens: impl IntoIterator<Item = (u64, usize)>, most: usize) -> Self {
        let mut lengths = BTreeMap::new();
        tokens.into_iter().for_each(|(doc, n)| *lengths.entry(doc).or_insert(0.0) += n as f64);
        let all: f64 = lengths.values().sum();
        let (apart, mut before) = (lengths.len() <= most, 0.0);
        let mut blocks = Self::default();
        let mut last = None;
        for (rank, (doc, length)) in lengths.into_iter().enumerate() {
            // A document belongs where its middle is.
            let place = ((before + length / 2.0) / all.max(1.0) * most as f64) as usize;
            before += length;
            let place = if apart { rank } else { place };
            if last != Some(place) {
                blocks.sizes.push(0.0);
                last = Some(place);
            }
            let block = blocks.sizes.len() - 1;
            blocks.sizes[block] += length;
            blocks.of.insert(doc, block);
        }
        blocks
    }

    /// How many blocks.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// How many documents.
    pub fn documents(&self) -> usize {
        self.of.len()
    }

    /// The block of a document; the first one of a document that is not known.
    pub fn of(&self, doc: u64) -> usize {
        self.of.get(&doc).copied().unwrap_or(0)
    }

    /// Tokens of each block.
    pub fn sizes(&self) -> &[f64] {
        &self.sizes
    }

    /// Effective blocks by their tokens.
    pub fn n_eff(&self) -> f64 {
        effective(self.sizes.iter().copied())
    }

    /// The interval of a number from its values without each block, within the least and the most that it can be.
    ///
    /// # Errors
    /// As of any jackknife; [`NoInterval::NotSampled`] of a bootstrap, which sums of matrices are too large for.
    pub fn interval(
        &self,
        estimate: f64,
        left_out: &[f64],
        range: [f64; 2],
        intervals: Intervals,
    ) -> Result<Interval, NoInterval> {
        if intervals.method() == Method::Bootstrap {
            return Err(NO_BOOTSTRAP);
        }
        let spread = jackknife(left_out, self.n_eff())?;
        let spread = if intervals.is_serial() { spread.serial(left_out)? } else { spread };
        Ok(spread.around(estimate)?.within(range))
    }

    /// Rows, whose documents are given, cut where the block changes: `(block, first row, rows)`.
    pub fn runs(&self, docs: &[u64]) -> Vec<(usize, usize, usize)> {
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        for (row, doc) in docs.iter().enumerate() {
            let block = self.of(*doc);
            match runs.last_mut() {
                Some((last, _, n)) if *last == block => *n += 1,
                _ => runs.push((block, row, 1)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1, 2, 3, 4, 10 the mean is 4, its standard error √2.5 and t(4) 2.776445: 4 ± 4.38993.
    #[test]
    fn the_interval_is_the_jackknifes_or_none() {
        let blocks = Blocks::new((0..5).map(|doc| (doc, 10)), 32);
        let left_out = [1.0, 2.0, 3.0, 4.0, 10.0].map(|x: f64| (20.0 - x) / 4.0);
        let of = |range, intervals| blocks.interval(4.0, &left_out, range, intervals);
        let wide = of([-9.0, 99.0], Intervals::default()).unwrap();
        assert!((wide.lower + 0.389_946).abs() < 1e-5 && (wide.upper - 8.389_946).abs() < 1e-5, "{wide:?}");
        let cut = of([0.0, 5.0], Intervals::default()).unwrap();
        assert_eq!((cut.lower, cut.upper), (0.0, 5.0));
        assert_eq!(of([0.0, 5.0], Intervals::bootstrap(0, 100)), Err(NO_BOOTSTRAP));
        let few = Blocks::new((0..4).map(|doc| (doc, 10)), 32);
        let why = few.interval(1.0, &[1.0; 4], [0.0, 2.0], Intervals::default());
        assert_eq!(why, Err(NoInterval::FewClusters { n_eff: 4.0 }));
    }

    #[test]
    fn few_documents_are_blocks_of_their_own_and_many_share_them() {
        let few = Blocks::new([(7, 3), (2, 1), (7, 2)], 4);
        assert_eq!(
            (few.len(), few.documents(), few.of(2), few.of(7), few.sizes()),
            (2, 2, 0, 1, &[1.0, 5.0][..])
        );
        assert_eq!(few.n_eff(), 36.0 / 26.0);
        assert_eq!(few.runs(&[7, 7, 2, 7]), [(1, 0, 2), (0, 2, 1), (1, 3, 1)]);
        // Middles at 5, 15, … 95 of 100: two, three, two and three documents in quarters of 25.
        let many = Blocks::new((0..10).map(|doc| (doc, 10)), 4);
        assert_eq!(many.sizes(), [20.0, 30.0, 20.0, 30.0]);
        // One as long as nearly all leaves blocks empty, which are none.
        let uneven = Blocks::new([(0, 1), (1, 1000), (2, 1), (3, 1), (4, 1)], 4);
        assert_eq!(uneven.sizes(), [1.0, 1000.0, 3.0]);
        assert!(Blocks::new([], 4).is_empty());
    }
}
