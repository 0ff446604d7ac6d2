//! Whether a lens shows what the model must think of on the way: ranks of words that an answer goes through and that the
//! prompt does not say.
//!
//! "The capital of the country where the Eiffel Tower stands is": a model that answers "Paris" by way of France may
//! have France in its states. For every prompt the smallest rank of such a word over the layers, at the last position,
//! is what a lens shows of it; `pass@k` is the share of words whose smallest rank is at most k (Gurnee et al. 2026).
//!
//! Over many layers and spellings some word or other is always near the top, and common words are near it everywhere.
//! So every number has its control: the same of another prompt's words. What counts is the difference.

mod item;
mod rank;
mod rows;

pub use item::{Concept, Item, items};
pub use rank::{Ranks, ranks};
pub use rows::{KS, rows};
