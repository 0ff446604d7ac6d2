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
/// Scores of lenses and of probes draw from here, so that both see the same resampled documents.
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
        let mut out = Vec::with_capacity(self.replicates);
        self.append_weights(doc_id, &mut out);
        out
    }

    /// As [`Self::weights`], at the end of `out`.
    pub fn append_weights(self, doc_id: u64, out: &mut Vec<u8>) {
        let mut random = stream(self.seed, PURPOSE, doc_id);
        out.extend((0..self.replicates).map(|_| poisson(random.next_u32())));
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
    fn the_same_weights_as_numpy() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../fixtures/score/expected.json")).unwrap();
        let resamples = Resamples::new(golden["seed"].as_u64().unwrap(), 40);
        for (document, weights) in (0..).zip(golden["weights"].as_array().unwrap()) {
            let expected: Vec<u8> = serde_json::from_value(weights.clone()).unwrap();
            assert_eq!(resamples.weights(document), expected, "document {document}");
        }
    }

    #[test]
    fn mean_and_variance_are_one_and_documents_are_independent() {
        let (docs, replicates) = (400, 1000);
        let draws: Vec<Vec<f64>> = (0..docs)
            .map(|d| {
                Resamples::new(3, replicates).weights(d).into_iter().map(|w| f64::from(w) - 1.0).collect()
            })
            .collect();
        let n = (docs as usize * replicates) as f64;
        let moment = |power| draws.iter().flatten().map(|x| x.powi(power)).sum::<f64>() / n;
        // Central moments of Poisson(1): 0, 1, 1, 4, 11, 41; five standard errors.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 3.0), (3, 1.0, 40.0_f64)] {
            assert!((moment(power) - expected).abs() < 5.0 * (variance / n).sqrt(), "moment {power}");
        }
        let correlation =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / a.len() as f64;
        let limit = 5.5 / (replicates as f64).sqrt();
        for (i, a) in draws.iter().enumerate() {
            assert!(draws[..i].iter().all(|b| correlation(a, b).abs() < limit), "document {i}");
            assert!(correlation(&a[1..], &a[..replicates - 1]).abs() < limit, "document {i}: neighbours");
        }
    }

    #[test]
    fn draws_depend_on_seed_and_document_only() {
        let one = Resamples::new(1, 50);
        let forth: Vec<_> = (0..20).map(|d| one.weights(d)).collect();
        let mut back: Vec<_> = (0..20).rev().map(|d| one.weights(d)).collect();
        back.reverse();
        assert_eq!(forth, back);
        assert_eq!(Resamples::new(1, 500).weights(7)[..50], forth[7]);
        assert_ne!(Resamples::new(2, 50).weights(7), forth[7]);
        assert_ne!(one.weights(7 + (1 << 32)), forth[7]);
    }
}
