//! Scores of a corpus: means over tokens with 95 % intervals over documents, streamed, in bounded memory.
//!
//! Tokens of one document are alike, so documents are what an interval leaves out or resamples ([`Intervals`]). A
//! [`Tally`] takes the sums of one document at a time, from any batch, thread or shard; its [`Scores`] give means,
//! intervals, and any function of the means with an interval of its own ([`Scores::contrast`]), which is how paired
//! differences are made: both sides are without the same documents. A number over documents and directions is
//! [`Scores::crossed`].

mod blocks;
mod clusters;
mod crossed;
mod docs;
mod error;
mod replicates;
mod scores;
mod spearman;
mod tally;
#[cfg(test)]
mod tests;

pub use blocks::{Blocks, MOST_APART, NO_BOOTSTRAP};
pub use crossed::Item;
pub use error::ScoreError;
pub use layerscope_probes::{Estimate, Interval, Intervals, Method, NoInterval, Resamples};
pub use scores::Scores;
pub use spearman::spearman;
pub use tally::Tally;
