//! Random numbers of the simulations: a stream of those of [`crate::results::draw`], the same on every machine.

use crate::results::draw;

/// A stream of numbers of a seed.
#[derive(Debug, Clone)]
pub(super) struct Random {
    key: u64,
    at: u64,
}

impl Random {
    /// Streams of a seed share nothing, and neither do those of two seeds.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self { key: draw::draw(seed, 0, stream), at: 0 }
    }

    /// In 0..1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.at += 1;
        draw::uniform(self.key, 0, self.at)
    }

    /// In 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// Standard normal.
    pub(super) fn normal(&mut self) -> f64 {
        self.at += 1;
        draw::normal(self.key, 1, self.at)
    }
}
