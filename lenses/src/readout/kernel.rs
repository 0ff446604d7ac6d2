//! Passes over one row of a tile of logits, written so that the compiler vectorises them for the CPU at hand.

use multiversion::multiversion;

/// Sums are kept in so many lanes: one AVX-512 register, two AVX ones, four NEON ones.
const LANES: usize = 16;

/// Adds the head bias.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn add(row: &mut [f32], bias: &[f32]) {
    for (z, b) in row.iter_mut().zip(bias) {
        *z += b;
    }
}

/// Soft cap of Gemma-2, `z <- cap·tanh(z / cap)`, with `tanh x = 1 - 2 / (exp 2x + 1)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn cap(row: &mut [f32], cap: f32) {
    for z in row {
        *z = cap * (1.0 - 2.0 / (exp((2.0 * *z / cap).clamp(-80.0, 80.0)) + 1.0));
    }
}

/// The largest logit. A NaN comes out as NaN or is passed over: the sums find it.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &z) in lanes.iter_mut().zip(chunk) {
            *lane = if z > *lane { z } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &z| if z > a { z } else { a })
}

/// How many logits are larger than `threshold`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn count_above(row: &[f32], threshold: f32) -> u32 {
    let mut lanes = [0u32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder().iter().filter(|z| **z > threshold).count();
    for chunk in chunks {
        for (lane, &z) in lanes.iter_mut().zip(chunk) {
            *lane += u32::from(z > threshold);
        }
    }
    lanes.iter().sum::<u32>() + rest as u32
}

/// `(Σ exp(x), Σ exp(x)·x)` with `x = z - reference`; each `z` is replaced by its term of the first sum.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn exp_sums(row: &mut [f32], reference: f32) -> (f32, f32) {
    let (mut sums, mut weighted) = ([0f32; LANES], [0f32; LANES]);
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for ((z, sum), zsum) in chunk.iter_mut().zip(&mut sums).zip(&mut weighted) {
            let x = *z - reference;
            let p = exp(x);
            *sum += p;
            *zsum += p * x;
            *z = p;
        }
    }
    let (mut sum, mut zsum) = (sums.iter().sum::<f32>(), weighted.iter().sum::<f32>());
    for z in chunks.into_remainder() {
        let x = *z - reference;
        let p = exp(x);
        sum += p;
        zsum += p * x;
        *z = p;
    }
    (sum, zsum)
}

/// As [`exp_sums`] for capped logits; what is left in the row is also multiplied by the cap's slope `1 - (z / cap)²`,
/// so that its product with `W` is the gradient of the log of the sum.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn exp_sums_capped(row: &mut [f32], reference: f32, cap: f32) -> (f32, f32) {
    let (mut sum, mut zsum) = (0f32, 0f32);
    for z in row {
        let x = *z - reference;
        let p = exp(x);
        sum += p;
        zsum += p * x;
        *z = p * (1.0 - (*z / cap) * (*z / cap));
    }
    (sum, zsum)
}

/// `row <- row · factor`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn scale(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}

/// `sums += weight · row`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn add_scaled(sums: &mut [f32], row: &[f32], weight: f32) {
    for (sum, x) in sums.iter_mut().zip(row) {
        *sum += weight * x;
    }
}

/// `exp x` to about two units in the last place, without a branch; below -87 it is 0 to f32's normal numbers.
///
/// `x = k ln 2 + r`, `|r| <= ln 2 / 2`, with a Taylor polynomial of `exp r`, and `2^k` put into the exponent bits.
#[inline(always)]
#[allow(clippy::inline_always, clippy::excessive_precision)] // must become part of the vectorised loop; Cephes' split of ln 2
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * LN2_HIGH - k * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let bits = (shifted.to_bits() << 23).wrapping_add(p.to_bits());
    f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 1000) as f32 * 0.02 - 12.0).collect()
    }

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8700..1000 {
            let x = i as f32 * 0.01 + 0.003;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 3e-7, "{x}: {got} {want}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1.7e-38);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn passes_agree_with_plain_loops_at_any_length() {
        for n in [1, 15, 16, 17, 100, 513] {
            let z = row(n);
            assert_eq!(max(&z), z.iter().copied().fold(f32::MIN, f32::max));
            assert_eq!(count_above(&z, 1.0) as usize, z.iter().filter(|z| **z > 1.0).count());
            let (want, want_z) = z.iter().fold((0f64, 0f64), |(s, t), z| {
                let p = (f64::from(*z) - 3.0).exp();
                (s + p, t + p * (f64::from(*z) - 3.0))
            });
            let mut p = z.clone();
            let (sum, zsum) = exp_sums(&mut p, 3.0);
            assert!((f64::from(sum) / want - 1.0).abs() < 1e-6, "{n}");
            assert!((f64::from(zsum) - want_z).abs() < 1e-6 * want * 20.0, "{n}");
            assert!(p.iter().zip(&z).all(|(p, z)| (p - (z - 3.0).exp()).abs() <= 1e-6 * p));
        }
    }

    #[test]
    fn the_cap_is_a_tanh() {
        let mut z = vec![-200.0, -30.0, -1.0, 0.0, 1e-3, 5.0, 40.0, 1e4];
        let want: Vec<f64> = z.iter().map(|z| 30.0 * (f64::from(*z) / 30.0).tanh()).collect();
        cap(&mut z, 30.0);
        assert!(z.iter().zip(&want).all(|(z, w)| (f64::from(*z) - w).abs() < 1e-5), "{z:?} {want:?}");
    }

    #[test]
    fn nan_reaches_the_sums() {
        let mut z = row(40);
        z[20] = f32::NAN;
        assert!(exp_sums(&mut z, 0.0).0.is_nan());
    }
}
