//! Rows by the block of neighbours ([`Neighbours`]) that their cluster is in.

use std::collections::BTreeMap;

use super::neighbours::Neighbours;
use crate::interval::effective;

/// Blocks of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Bits taken off the ids.
    pub(crate) shift: u32,
    /// Ascending.
    pub(crate) ids: Vec<u64>,
    /// Rows of each.
    pub(crate) rows: Vec<u64>,
}

impl Blocks {
    /// The bits off that [`Neighbours`] takes of these ids.
    pub(crate) fn shift_for(ids: &[u64]) -> u32 {
        let mut blocks = Neighbours::default();
        for id in ids {
            blocks.add(*id, (), |(), ()| ());
        }
        blocks.shift()
    }

    /// Of one cluster id per row.
    pub(crate) fn new(of_row: &[u64], shift: u32) -> Self {
        let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
        for id in of_row {
            *rows.entry(id >> shift).or_default() += 1;
        }
        Self { shift, ids: rows.keys().copied().collect(), rows: rows.into_values().collect() }
    }

    /// All of several parts, with the rows of all.
    pub(crate) fn union<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let (mut shift, mut rows) = (0, BTreeMap::new());
        for part in parts {
            shift = part.shift;
            part.ids.iter().zip(&part.rows).for_each(|(id, n)| *rows.entry(*id).or_default() += n);
        }
        Self { shift, ids: rows.keys().copied().collect(), rows: rows.into_values().collect() }
    }

    /// The block of a cluster, by place.
    pub(crate) fn place(&self, id: u64) -> usize {
        self.ids.partition_point(|other| *other < id >> self.shift)
    }

    /// Effective blocks.
    pub(crate) fn n_eff(&self) -> f64 {
        effective(self.rows.iter().map(|n| *n as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_put_together_until_few_are_left() {
        let rows: Vec<u64> = (0..2000).map(|row| row / 2 + 5).collect();
        let shift = Blocks::shift_for(&rows);
        let blocks = Blocks::new(&rows, shift);
        // Ids 5 to 1004: of two neighbours 2 to 502.
        assert_eq!((shift, blocks.ids.len(), blocks.ids[0], blocks.rows[0]), (1, 501, 2, 2));
        assert_eq!((blocks.rows[1], blocks.place(5), blocks.place(7)), (4, 0, 1));
        assert_eq!(Blocks::shift_for(&[0, u64::MAX]), 0);
        let part = Blocks::new(&rows[..4], shift);
        assert_eq!(Blocks::union([&part, &part].into_iter()).rows, [4, 4]);
    }
}
