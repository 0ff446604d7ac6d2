//! Numbers for tests that depend on a seed alone: torch's generator is shared by all tests of a process.

use tch::Tensor;

/// Numbers of about unit variance, between -4.2 and 4.2.
pub(crate) fn noise(seed: u64, shape: &[i64]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let numbers: Vec<f32> =
        (0..shape.iter().product()).map(|_| (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 1.4).collect();
    Tensor::from_slice(&numbers).view(shape)
}
