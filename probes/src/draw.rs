//! Random draws.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Draws of `(seed, stream)`, the same on every machine and whatever else is drawn.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Uniform in [0, 1).
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ndarray::Array2;

    /// Standard normal `(n, d)`, by Box and Muller.
    pub(crate) fn normal(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let mut rng = stream(seed, 0);
        Array2::from_shape_simple_fn((n, d), || {
            let radius = (-2.0 * (1.0 - uniform(&mut rng)).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform(&mut rng)).cos()) as f32
        })
    }

    #[test]
    fn draws_are_normal_and_repeat() {
        let x = normal(2000, 2, 1);
        assert_eq!(x, normal(2000, 2, 1));
        assert_ne!(x, normal(2000, 2, 2));
        assert!(x.sum().abs() < 300.0 && (x.mapv(|v| v * v).sum() / 4000.0 - 1.0).abs() < 0.1);
    }
}
