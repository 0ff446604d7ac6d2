//! Random draws that depend on what they are for, never on the order in which they are made.

/// A number that looks random, from a seed and two others (splitmix64, Steele et al. 2014).
pub fn draw(seed: u64, a: u64, b: u64) -> u64 {
    [a, b].into_iter().fold(seed, |state, x| {
        let mut z = (state ^ x).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// The same as a number in `[0, 1)`.
pub fn uniform(seed: u64, a: u64, b: u64) -> f64 {
    (draw(seed, a, b) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal number (Box and Muller 1958).
pub fn normal(seed: u64, a: u64, b: u64) -> f64 {
    let (u, v) = (1.0 - uniform(seed, a, 2 * b), uniform(seed, a, 2 * b + 1)); // u in (0, 1]
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A permutation of `0..n` that keeps nothing in its place, one cycle of all `n` (Sattolo 1986); none when `n < 2`.
pub fn derangement(seed: u64, n: usize) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (draw(seed, n as u64, i as u64) % i as u64) as usize);
    }
    (n > 1).then_some(order)
}

/// A permutation of `0..n` (Fisher-Yates).
pub fn permutation(seed: u64, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (draw(seed, n as u64, i as u64) % (i as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_in_its_place() {
        assert!(derangement(0, 0).is_none() && derangement(0, 1).is_none());
        assert_eq!(derangement(5, 2), Some(vec![1, 0]));
        for n in 2..40 {
            let order = derangement(3, n).unwrap();
            assert!(order.iter().enumerate().all(|(i, j)| i != *j), "{order:?}");
            let mut sorted = order;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n));
        }
        assert_ne!(derangement(0, 30), derangement(1, 30));
    }

    #[test]
    fn draws_are_even() {
        let all: Vec<f64> = (0..4000).map(|i| uniform(1, 2, i)).collect();
        assert!(all.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = all.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}"); // 4 standard deviations are 0.018
        let first = (0..600).filter(|seed| permutation(*seed, 3)[0] == 0).count();
        assert!((150..250).contains(&first), "{first} of 600");
    }
}
