//! Sums over documents, and without each of them or resampled.

use layerscope_probes::{Intervals, Method};

use super::{ScoreError, clusters::Clusters, docs::DocSet, replicates::Replicates, scores::Scores};

/// The streaming side: takes documents, in any order and in parts, and keeps what intervals need ([`Intervals`]).
///
/// Memory is at most `8 · 512 (columns + groups)` bytes of a jackknife, `8 (replicates + 1) (columns + groups)` of a
/// bootstrap, and a bit per document and group, whatever the corpus. Where a document's parts are cut and when
/// [`Self::scores`] is called changes no result beyond the order of f64 additions; the same documents in the same order
/// give the same bits.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Count group of each column.
    columns: Vec<usize>,
    /// Documents of each group.
    docs: Vec<DocSet>,
    intervals: Intervals,
    sums: Sums,
    /// What was read since the last document.
    scores: Option<Scores>,
}

/// Sums of the columns, then counts of the groups.
#[derive(Debug, Clone)]
enum Sums {
    Jackknife(Clusters),
    /// And the groups' counts alone.
    Bootstrap(Replicates, Clusters),
}

impl Tally {
    /// `columns` gives the count group of each column: its mean is the column's sum over the group's count. Groups are
    /// 0..`groups`, such as "positions with a label" and "all positions", or bytes for nats per byte.
    ///
    /// # Errors
    /// [`ScoreError::NoSuchGroup`].
    pub fn new(columns: Vec<usize>, groups: usize, intervals: Intervals) -> Result<Self, ScoreError> {
        if let Some((column, &group)) = columns.iter().enumerate().find(|&(_, &group)| group >= groups) {
            return Err(ScoreError::NoSuchGroup { column, group, groups });
        }
        let width = columns.len() + groups;
        let sums = match intervals.method() {
            Method::Jackknife => Sums::Jackknife(Clusters::new(width)),
            Method::Bootstrap => {
                Sums::Bootstrap(Replicates::new(width, intervals.resamples()), Clusters::new(groups))
            }
        };
        Ok(Self { columns, docs: vec![DocSet::default(); groups], intervals, sums, scores: None })
    }

    /// Adds one document, or a part of one: its sum for every column, its count for every group.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`], [`ScoreError::BadCount`], [`ScoreError::Width`]; nothing was added then.
    pub fn add(&mut self, doc_id: u64, sums: &[f64], counts: &[f64]) -> Result<(), ScoreError> {
        self.check(doc_id, sums, counts)?;
        for (docs, &count) in self.docs.iter_mut().zip(counts) {
            if count > 0.0 {
                docs.insert(doc_id);
            }
        }
        self.scores = None;
        let values = sums.iter().chain(counts).copied();
        match &mut self.sums {
            Sums::Jackknife(clusters) => clusters.add(doc_id, values),
            Sums::Bootstrap(replicates, sizes) => {
                replicates.add(doc_id, values);
                sizes.add(doc_id, counts.iter().copied());
            }
        }
        Ok(())
    }

    /// Adds what the other tally has seen. Parts of one document may be in both.
    ///
    /// # Errors
    /// [`ScoreError::Mismatch`] when columns, groups or intervals differ; nothing was added then.
    pub fn merge(&mut self, other: Self) -> Result<(), ScoreError> {
        let same = [
            ("columns", self.columns == other.columns),
            ("count groups", self.docs.len() == other.docs.len()),
            ("intervals", self.intervals == other.intervals),
        ];
        if let Some(&(what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(ScoreError::Mismatch { what });
        }
        self.scores = None;
        match (&mut self.sums, other.sums) {
            (Sums::Jackknife(ours), Sums::Jackknife(theirs)) => ours.merge(theirs),
            (Sums::Bootstrap(ours, our_sizes), Sums::Bootstrap(theirs, their_sizes)) => {
                ours.merge(theirs);
                our_sizes.merge(their_sizes);
            }
            _ => return Err(ScoreError::Mismatch { what: "intervals" }),
        }
        self.docs.iter_mut().zip(&other.docs).for_each(|(a, b)| a.merge(b));
        Ok(())
    }

    /// The scores of the documents so far.
    pub fn scores(&mut self) -> &Scores {
        let (columns, docs, intervals) = (&self.columns, &self.docs, self.intervals);
        self.scores.get_or_insert_with(|| match &mut self.sums {
            Sums::Jackknife(clusters) => Scores::without_each(columns, docs, clusters, intervals),
            Sums::Bootstrap(replicates, sizes) => {
                Scores::resampled(columns, docs, (replicates, sizes), intervals)
            }
        })
    }

    fn check(&self, doc_id: u64, sums: &[f64], counts: &[f64]) -> Result<(), ScoreError> {
        let (columns, groups) = (self.columns.len(), self.docs.len());
        for (what, expected, got) in [("sums", columns, sums.len()), ("counts", groups, counts.len())] {
            if expected != got {
                return Err(ScoreError::Width { doc_id, what, expected, got });
            }
        }
        if let Some((column, &value)) = sums.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            return Err(ScoreError::NotFinite { doc_id, column, value });
        }
        match counts.iter().enumerate().find(|(_, n)| !n.is_finite() || **n < 0.0) {
            Some((group, &value)) => Err(ScoreError::BadCount { doc_id, group, value }),
            None => Ok(()),
        }
    }
}
