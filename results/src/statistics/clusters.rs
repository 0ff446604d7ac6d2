//! Sums of each document apart, or of blocks of neighbouring ones where they are many.

use layerscope_probes::{Neighbours, interval::effective};

/// The streaming side of a jackknife: a row of sums for each block of documents ([`Neighbours`]), and one for all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clusters {
    rows: Neighbours<Vec<f64>>,
    /// In the order in which the documents came.
    total: Vec<f64>,
}

/// Puts sums to others.
fn add(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
}

impl Clusters {
    /// Rows of `width` sums.
    pub(super) fn new(width: usize) -> Self {
        Self { rows: Neighbours::default(), total: vec![0.0; width] }
    }

    /// Adds the sums of a document or of a part of one.
    pub(super) fn add(&mut self, doc_id: u64, values: impl Iterator<Item = f64> + Clone) {
        self.total.iter_mut().zip(values.clone()).for_each(|(sum, value)| *sum += value);
        self.rows.add(doc_id, values.collect(), |sums, more| add(sums, &more));
    }

    /// Adds what the other has seen.
    pub(super) fn merge(&mut self, other: Self) {
        self.rows.merge(other.rows, |sums, more| add(sums, &more));
        add(&mut self.total, &other.total);
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
        assert_eq!((all.len(), all.rows().next().unwrap()[0]), (375, 6.0));
        assert_eq!(of(&mut (0..1500).rev()), all);
        let mut halves = of(&mut (0..1500).step_by(2));
        halves.merge(of(&mut (0..1500).skip(1).step_by(2)));
        assert_eq!(halves, all);
        assert_eq!(all.total()[0], 1499.0 * 1500.0 / 2.0);
        assert_eq!(of(&mut (1..=3)).n_eff(0), 36.0 / 14.0);
    }
}
