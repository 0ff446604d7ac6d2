//! Sums of each document apart, or of blocks of neighbouring ones where they are many.

use std::collections::BTreeMap;

use layerscope_probes::{MOST_BLOCKS, interval::effective};

/// The streaming side of a jackknife: a row of sums for each block of documents, and one for all. Documents whose ids are equal without
/// their last `shift` bits are a block; `shift` grows when there are more than [`MOST_BLOCKS`], so that it depends on which documents
/// came and on nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clusters {
    width: usize,
    shift: u32,
    rows: BTreeMap<u64, Vec<f64>>,
    /// In the order in which the documents came.
    total: Vec<f64>,
}

impl Clusters {
    /// Rows of `width` sums.
    pub(super) fn new(width: usize) -> Self {
        Self { width, shift: 0, rows: BTreeMap::new(), total: vec![0.0; width] }
    }

    /// Adds the sums of a document or of a part of one.
    pub(super) fn add(&mut self, doc_id: u64, values: impl Iterator<Item = f64> + Clone) {
        self.total.iter_mut().zip(values.clone()).for_each(|(sum, value)| *sum += value);
        let row = self.rows.entry(doc_id >> self.shift).or_insert_with(|| vec![0.0; self.width]);
        row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        while self.rows.len() > MOST_BLOCKS {
            self.coarser(self.shift + 1);
        }
    }

    /// Adds what the other has seen.
    pub(super) fn merge(&mut self, mut other: Self) {
        let shift = self.shift.max(other.shift);
        self.coarser(shift);
        other.coarser(shift);
        self.total.iter_mut().zip(&other.total).for_each(|(sum, value)| *sum += value);
        for (id, values) in other.rows {
            let row = self.rows.entry(id).or_insert_with(|| vec![0.0; self.width]);
            row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        while self.rows.len() > MOST_BLOCKS {
            self.coarser(self.shift + 1);
        }
    }

    /// Puts blocks together until `shift` bits are off.
    fn coarser(&mut self, shift: u32) {
        let more = shift - self.shift;
        if more == 0 {
            return;
        }
        for (id, values) in std::mem::take(&mut self.rows) {
            let row = self.rows.entry(id >> more).or_insert_with(|| vec![0.0; self.width]);
            row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        self.shift = shift;
    }

    /// How many blocks.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The sums of everything.
    pub(super) fn total(&self) -> &[f64] {
        &self.total
    }

    /// The sums of each block, in the order of ids.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.rows.values().map(Vec::as_slice)
    }

    /// Effective blocks by the sum at `place`, which is a count.
    pub(super) fn n_eff(&self, place: usize) -> f64 {
        effective(self.rows().map(|row| row[place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_depend_on_the_documents_and_not_on_their_order() {
        let of = |ids: &mut dyn Iterator<Item = u64>| {
            let mut clusters = Clusters::new(1);
            ids.for_each(|id| clusters.add(id, std::iter::once(id as f64)));
            clusters
        };
        let all = of(&mut (0..1500));
        // 1500 documents in blocks of 4 neighbours: 0 + 1 + 2 + 3 = 6.
        assert_eq!((all.shift, all.len(), all.rows().next().unwrap()[0]), (2, 375, 6.0));
        assert_eq!(of(&mut (0..1500).rev()), all);
        let mut halves = of(&mut (0..1500).step_by(2));
        halves.merge(of(&mut (0..1500).skip(1).step_by(2)));
        assert_eq!(halves, all);
        assert_eq!(all.total()[0], 1499.0 * 1500.0 / 2.0);
        assert_eq!(of(&mut (1..=3)).n_eff(0), 36.0 / 14.0);
    }
}
