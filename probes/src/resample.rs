//! The Poisson bootstrap: how often each document is drawn in each replicate.
//!
//! The bootstrap draws D documents out of D with replacement; a document's count is then Binomial(D, 1/D), nearly
//! Poisson(1). Independent Poisson(1) counts give the same intervals without knowing D, in one pass over a stream
//! (Hanley & `MacGibbon` 2006, Comput. Methods Programs Biomed. 83:57; Chamandy, Muralidharan, Najmi & Naidu 2012,
//! "Estimating uncertainty for massive data streams").

use rand_chacha::rand_core::RngCore as _;

use crate::draw::{Purpose, stream};

const PURPOSE: &Purpose = b"layerscope/poisson-boot1";

/// `round(2^32 P(X <= k))` for X ~ Poisson(1) and k = 0, 1, … 11; what is beyond 12 has probability 6e-11.
const CUMULATIVE: [u32; 12] = [
    1_580_030_169,
    3_160_060_337,
    3_950_075_422,
    4_213_413_783,
    4_279_248_374,
    4_292_415_292,
    4_294_609_778,
    4_294_923_276,
    4_294_962_463,
    4_294_966_817,
    4_294_967_253,
    4_294_967_292,
];

/// Poisson(1) weights of documents, a function of (seed, document id) and nothing else: batch size, order, thread and
/// shard counts do not matter. More replicates extend the same draws.
///
/// Replicate r of a document gets the number of `CUMULATIVE` that its u32 reaches (the inverse distribution function).
/// The u32 is word r of the `ChaCha8` stream (Bernstein 2008, 64-bit counter from 0) of nonce `doc_id` under the key
/// `seed` (8 bytes, little-endian) followed by `layerscope/poisson-boot1`.
///
/// The same draws as `layerscope`'s own scores, so that probes and lenses see the same resampled documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resamples {
    seed: u64,
    replicates: usize,
}

impl Default for Resamples {
    /// 1000 replicates of seed 0.
    fn default() -> Self {
        Self::new(0, 1000)
    }
}

impl Resamples {
    /// `replicates` resampled corpora; none means no intervals.
    pub fn new(seed: u64, replicates: usize) -> Self {
        Self { seed, replicates }
    }

    /// How many resampled corpora.
    pub fn replicates(self) -> usize {
        self.replicates
    }

    /// The document's count in each replicate, `[replicates]`, each 0 to 12.
    pub fn weights(self, doc_id: u64) -> Vec<u8> {
        let mut random = stream(self.seed, PURPOSE, doc_id);
        (0..self.replicates).map(|_| poisson(random.next_u32())).collect()
    }
}

fn poisson(uniform: u32) -> u8 {
    CUMULATIVE.iter().map(|&c| u8::from(uniform >= c)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_distribution_function() {
        let (mut cumulative, mut p) = (0.0, (-1.0_f64).exp());
        for (k, &entry) in CUMULATIVE.iter().enumerate() {
            cumulative += p;
            p /= k as f64 + 1.0;
            assert_eq!(f64::from(entry), (cumulative * 2.0_f64.powi(32)).round(), "k = {k}");
        }
    }

    #[test]
    fn the_same_weights_as_numpy_and_the_scores_of_the_root() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../fixtures/score/expected.json")).unwrap();
        let resamples = Resamples::new(golden["seed"].as_u64().unwrap(), 40);
        for (document, weights) in (0..).zip(golden["weights"].as_array().unwrap()) {
            let expected: Vec<u8> = serde_json::from_value(weights.clone()).unwrap();
            assert_eq!(resamples.weights(document), expected, "document {document}");
        }
    }
}
