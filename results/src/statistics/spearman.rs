//! Rank correlation.

/// Spearman's rank correlation of paired values; NaN for fewer than two pairs or constant values, and when one is NaN.
pub fn spearman(pairs: &[(f64, f64)]) -> f64 {
    if pairs.iter().any(|(x, y)| x.is_nan() || y.is_nan()) {
        return f64::NAN;
    }
    let ranks = |values: Vec<f64>| -> Vec<f64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ranks = vec![0.0; values.len()];
        let mut start = 0;
        while start < order.len() {
            let tied = order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count();
            for i in &order[start..start + tied] {
                ranks[*i] = start as f64 + (tied - 1) as f64 / 2.0;
            }
            start += tied;
        }
        ranks
    };
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (x, y) = (ranks(x), ranks(y));
    let mean = (x.len() as f64 - 1.0) / 2.0;
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| -> f64 { x.iter().zip(&y).map(|(a, b)| f(a - mean, b - mean)).sum() };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_by_hand() {
        assert!((spearman(&[(1.0, 10.0), (2.0, 20.0), (3.0, 25.0)]) - 1.0).abs() < 1e-12);
        // Ranks (0, 1, 2, 3) and (3, 2, 0, 1): 1 - 6·(9 + 1 + 4 + 4) / (4·15) = -0.8
        assert!((spearman(&[(1.0, 9.0), (2.0, 5.0), (3.0, 1.0), (4.0, 2.0)]) + 0.8).abs() < 1e-12);
        // Ties share their rank: (0, 1.5, 1.5, 3) with itself is 1.
        assert!((spearman(&[(1.0, 1.0), (2.0, 2.0), (2.0, 2.0), (3.0, 3.0)]) - 1.0).abs() < 1e-12);
        assert!(spearman(&[(1.0, 1.0)]).is_nan());
        assert!(spearman(&[(1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0)]).is_nan());
    }
}
