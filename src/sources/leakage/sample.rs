//! A bounded random sample of hashes that does not depend on their order.

use std::collections::HashMap;

/// Every hash of a set with so many leading zero bits, at most `most` of them, and how often each was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    most: usize,
    /// Leading zero bits that a hash needs: one hash in 2^level is kept.
    level: u32,
    counts: HashMap<u64, u32>,
}

impl Sample {
    pub(super) fn new(most: usize) -> Self {
        Self { most, level: 0, counts: HashMap::new() }
    }

    /// What a file holds.
    pub(super) fn of(most: usize, level: u32, counts: HashMap<u64, u32>) -> Self {
        Self { most, level, counts }
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Whether this hash would be in the sample if it had been added.
    pub(super) fn keeps(&self, hash: u64) -> bool {
        hash.leading_zeros() >= self.level
    }

    /// Adds a hash. The level only rises, so a hash that is kept at the end was counted from the beginning.
    pub(super) fn add(&mut self, hash: u64) {
        if !self.keeps(hash) {
            return;
        }
        let count = self.counts.entry(hash).or_insert(0);
        *count = count.saturating_add(1);
        while self.counts.len() > self.most && self.level < u64::BITS {
            self.level += 1;
            let level = self.level;
            self.counts.retain(|hash, _| hash.leading_zeros() >= level);
        }
    }

    /// How often a hash was added; none: never, or it is not kept.
    pub(super) fn count(&self, hash: u64) -> Option<u32> {
        self.counts.get(&hash).copied()
    }

    /// Estimate of the number of different hashes that were added.
    pub(super) fn distinct(&self) -> f64 {
        self.counts.len() as f64 * 2f64.powi(self.level as i32)
    }

    /// Hashes with their counts, ascending.
    pub(super) fn sorted(&self) -> Vec<(u64, u32)> {
        let mut all: Vec<(u64, u32)> = self.counts.iter().map(|(hash, count)| (*hash, *count)).collect();
        all.sort_unstable();
        all
    }
}
