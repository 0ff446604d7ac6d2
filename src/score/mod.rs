//! Scores of a corpus: means over tokens with 95 % intervals over documents, streamed, in bounded memory.
//!
//! Tokens of one document are alike, so documents are what the intervals resample ([`Resamples`], the Poisson bootstrap).
//! A [`Tally`] takes the sums of one document at a time, from any batch, thread or shard; its [`Scores`] give means,
//! intervals, and any function of the means with an interval of its own ([`Scores::contrast`]), which is how paired
//! differences are made: both sides see the same resampled documents.

mod docs;
mod error;
mod scores;
mod tally;
#[cfg(test)]
mod tests;

pub use error::ScoreError;
pub use layerscope_probes::{Estimate, Resamples};
pub use scores::Scores;
pub use tally::Tally;
