//! Clusters put together until there are few enough to leave each out in turn: one rule for rows and for sums of a
//! stream.

use std::collections::{BTreeMap, btree_map::Entry};

/// Most blocks that are left out in turn. The variance that 512 give has a standard error of 6 %, its root of 3 %; more
/// would only cost.
pub const MOST_BLOCKS: usize = 512;

/// Something of each block of neighbours: of the clusters whose ids are equal without their last `shift` bits. A block
/// is a cluster of its own, so that nothing that holds for clusters is lost. `shift` is the least that leaves
/// [`MOST_BLOCKS`], so that it depends on which clusters came, and neither on their order nor on their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours<T> {
    shift: u32,
    of: BTreeMap<u64, T>,
}

impl<T> Default for Neighbours<T> {
    fn default() -> Self {
        Self { shift: 0, of: BTreeMap::new() }
    }
}

impl<T> Neighbours<T> {
    /// Adds a value of a cluster or of a part of one; `add` puts a second value of a block to the first.
    pub fn add(&mut self, id: u64, value: T, add: impl Fn(&mut T, T)) {
        put(&mut self.of, id >> self.shift, value, &add);
        self.settle(add);
    }

    /// Adds all that the other has.
    pub fn merge(&mut self, mut other: Self, add: impl Fn(&mut T, T)) {
        let shift = self.shift.max(other.shift);
        self.coarser(shift, &add);
        other.coarser(shift, &add);
        other.of.into_iter().for_each(|(id, value)| put(&mut self.of, id, value, &add));
        self.settle(add);
    }

    fn settle(&mut self, add: impl Fn(&mut T, T)) {
        while self.of.len() > MOST_BLOCKS {
            self.coarser(self.shift + 1, &add);
        }
    }

    /// Puts blocks together until `shift` bits are off.
    fn coarser(&mut self, shift: u32, add: &impl Fn(&mut T, T)) {
        if shift > self.shift {
            for (id, value) in std::mem::take(&mut self.of) {
                put(&mut self.of, id >> (shift - self.shift), value, add);
            }
            self.shift = shift;
        }
    }

    /// Bits taken off the ids.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// How many blocks.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The values, in the order of ids.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.of.values()
    }
}

fn put<T>(of: &mut BTreeMap<u64, T>, block: u64, value: T, add: &impl Fn(&mut T, T)) {
    match of.entry(block) {
        Entry::Vacant(place) => drop(place.insert(value)),
        Entry::Occupied(mut known) => add(known.get_mut(), value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_depend_on_the_clusters_and_not_on_their_order() {
        let of = |ids: &mut dyn Iterator<Item = u64>| {
            let mut sums = Neighbours::default();
            for id in ids {
                sums.add(id, id, |sum, id| *sum += id);
            }
            sums
        };
        let all = of(&mut (0..1500));
        // 1500 in blocks of 4 neighbours: 0 + 1 + 2 + 3 = 6.
        assert_eq!((all.shift(), all.len(), all.values().next()), (2, 375, Some(&6)));
        assert_eq!(of(&mut (0..1500).rev()), all);
        let mut halves = of(&mut (0..1500).step_by(2));
        halves.merge(of(&mut (0..1500).skip(1).step_by(2)), |sum, more| *sum += more);
        assert_eq!(halves, all);
        // Ids as far apart as can be are two blocks, and of each bit one.
        assert_eq!(of(&mut [0, u64::MAX].into_iter()).len(), 2);
        let bits = of(&mut (0..64).map(|bit| 1 << bit).chain(0..600));
        assert!(bits.len() <= MOST_BLOCKS && bits.shift() == 1, "{} {}", bits.len(), bits.shift());
    }
}
