//! A set of document ids: one bit per document where ids are dense, which they nearly are.

use std::collections::BTreeMap;

/// Documents per page; a page is 512 bytes.
const PAGE: u64 = 4096;

/// A set of document ids. Memory is 1 bit per document of every page of 4096 ids that is in use.
#[derive(Debug, Clone, Default)]
pub(super) struct DocSet {
    pages: BTreeMap<u64, Box<[u64; (PAGE / 64) as usize]>>,
    len: u64,
}

impl DocSet {
    pub(super) fn insert(&mut self, doc_id: u64) {
        let page = self.pages.entry(doc_id / PAGE).or_insert_with(|| Box::new([0; _]));
        let word = &mut page[(doc_id % PAGE / 64) as usize];
        let bit = 1 << (doc_id % 64);
        self.len += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// How many documents.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds the other set's documents.
    pub(super) fn merge(&mut self, other: &Self) {
        for (&number, theirs) in &other.pages {
            let ours = self.pages.entry(number).or_insert_with(|| Box::new([0; _]));
            for (a, &b) in ours.iter_mut().zip(theirs.iter()) {
                self.len += u64::from((b & !*a).count_ones());
                *a |= b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_document_once() {
        let set = |ids: &[u64]| {
            let mut set = DocSet::default();
            for &id in ids {
                set.insert(id);
            }
            set
        };
        let mut a = set(&[0, 63, 64, 4095, 4096, 64, u64::MAX, 0]);
        assert_eq!(a.len(), 6);
        a.merge(&set(&[64, 65, 4096, 9000, u64::MAX]));
        assert_eq!((a.len(), a.pages.len()), (8, 4));
    }
}
