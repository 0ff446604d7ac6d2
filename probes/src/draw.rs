//! Random draws from (seed, purpose, id) and from nothing else: order of rows, batches and threads do not matter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// Keeps the draws of one use apart from every other use of the same seed.
pub(crate) type Purpose = [u8; 24];

/// The `ChaCha8` stream of nonce `id` under the key `seed` (8 bytes, little-endian) followed by `purpose`.
pub(crate) fn stream(seed: u64, purpose: &Purpose, id: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(purpose);
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(id);
    random
}

/// Draw number `round` of a stream.
pub(crate) fn draw(seed: u64, purpose: &Purpose, id: u64, round: u64) -> u64 {
    let mut random = stream(seed, purpose, id);
    random.set_word_pos(2 * u128::from(round));
    random.next_u64()
}

/// Uniform in [0, 1).
pub(crate) fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The places of `ids` in random order: sorted by their draw of this round (equal draws: by id).
pub(crate) fn shuffled(seed: u64, purpose: &Purpose, round: u64, ids: &[u64]) -> Vec<usize> {
    let draws: Vec<u64> = ids.iter().map(|&id| draw(seed, purpose, id, round)).collect();
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|&i| (draws[i], ids[i], i));
    order
}

/// A random order of `0..ids.len()`, the place of each id by its own draw.
pub fn shuffle(seed: u64, ids: &[u64]) -> Vec<u32> {
    shuffled(seed, b"layerscope/shuffle order", 0, ids).into_iter().map(|place| place as u32).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ndarray::Array2;

    const PURPOSE: &Purpose = b"layerscope/test of draws";

    /// Standard normal `(n, d)`, by Box and Muller.
    pub(crate) fn normal(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let mut random = stream(seed, PURPOSE, 0);
        Array2::from_shape_simple_fn((n, d), || {
            let radius = (-2.0 * (1.0 - uniform(&mut random)).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform(&mut random)).cos()) as f32
        })
    }

    #[test]
    fn normal_draws_have_mean_0_and_variance_1() {
        let x = normal(2000, 2, 1);
        assert_eq!(x, normal(2000, 2, 1));
        assert_ne!(x, normal(2000, 2, 2));
        assert!(x.sum().abs() < 300.0 && (x.mapv(|v| v * v).sum() / 4000.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn draws_are_a_function_of_seed_purpose_id_and_round() {
        let mut random = stream(5, PURPOSE, 9);
        let first: Vec<u64> = (0..20).map(|_| random.next_u64()).collect();
        assert_eq!((0..20).map(|round| draw(5, PURPOSE, 9, round)).collect::<Vec<_>>(), first);
        assert_ne!(draw(6, PURPOSE, 9, 0), first[0]);
        assert_ne!(draw(5, b"layerscope/test of DRAWS", 9, 0), first[0]);
        assert_ne!(draw(5, PURPOSE, 9 + (1 << 32), 0), first[0]);
    }

    #[test]
    fn every_place_is_taken_about_equally_often() {
        let ids = [3, 70, 9, 12];
        let mut counts = [[0_u32; 4]; 4];
        for round in 0..4000 {
            for (place, i) in shuffled(1, PURPOSE, round, &ids).into_iter().enumerate() {
                counts[i][place] += 1;
            }
        }
        // 1000 expected, standard deviation 27.
        assert!(counts.as_flattened().iter().all(|&c| c.abs_diff(1000) < 140), "{counts:?}");
    }
}
