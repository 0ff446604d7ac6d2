use super::{Interval, NoInterval, jackknife, student};

/// How far two estimates of the same clusters would be with others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Covariance {
    /// The jackknife's variance of the first.
    pub first: f64,
    /// That of the second.
    pub second: f64,
    /// Their covariance.
    pub both: f64,
}

impl Covariance {
    /// From the values of both without each cluster in turn ([`jackknife`]).
    ///
    /// # Errors
    /// As [`jackknife`].
    pub fn jackknife(first: &[f64], second: &[f64], n_eff: f64) -> Result<Self, NoInterval> {
        let n = first.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
        let (a, b) = (mean(first), mean(second));
        let products: f64 = first.iter().zip(second).map(|(x, y)| (x - a) * (y - b)).sum();
        let variance = |values| Ok(jackknife(values, n_eff)?.variance);
        Ok(Self { first: variance(first)?, second: variance(second)?, both: (n - 1.0) / n * products })
    }

    /// All three times `factor`: of clusters whose neighbours are alike ([`super::Spread::serial`]).
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { first: self.first * factor, second: self.second * factor, both: self.both * factor }
    }
}

/// The interval of a ratio `a / b` of two estimates: every θ that `a - θ b` does not refute,
/// `|a - θ b| ≤ t(n_eff - 1) √(v_a - 2 θ c + θ² v_b)` (Fieller 1954, J. R. Stat. Soc. B 16). Of few clusters it holds
/// what it promises where `θ ± t √v` is too short, for a ratio of estimates is skewed and a difference is not.
///
/// # Errors
/// [`NoInterval::Constant`] without any spread; [`NoInterval::Denominator`] when `b` may be 0, for then no θ is refuted
/// on one side; [`NoInterval::Undefined`] for values that are no numbers.
pub fn ratio([a, b]: [f64; 2], spread: Covariance, n_eff: f64) -> Result<Interval, NoInterval> {
    if spread.first == 0.0 && spread.second == 0.0 {
        return Err(NoInterval::Constant);
    }
    let t2 = student(n_eff - 1.0).powi(2);
    // θ² square - 2 θ line + level ≤ 0
    let square = b * b - t2 * spread.second;
    let line = a * b - t2 * spread.both;
    let level = a * a - t2 * spread.first;
    if square <= 0.0 {
        return Err(NoInterval::Denominator);
    }
    // At θ = a / b the left side is at most 0, so that below 0 there is rounding only.
    let root = (line * line - square * level).max(0.0).sqrt();
    let (lower, upper) = ((line - root) / square, (line + root) / square);
    if lower.is_finite() && upper.is_finite() {
        Ok(Interval { lower, upper })
    } else {
        Err(NoInterval::Undefined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::NORMAL;

    /// A denominator that is known: ± t √v over it.
    #[test]
    fn of_a_known_denominator_it_is_the_means_interval() {
        let got = ratio([3.0, 2.0], Covariance { first: 0.25, second: 0.0, both: 0.0 }, 5.0).unwrap();
        // t(4) = 2.776445, √v = 0.5.
        assert!((got.lower - (1.5 - 2.776_445_105_2 * 0.25)).abs() < 1e-8, "{got:?}");
        assert!((got.upper - (1.5 + 2.776_445_105_2 * 0.25)).abs() < 1e-8, "{got:?}");
    }

    /// Every end is where the difference is just not refuted; by hand with z² = 3.8415: a = 1, b = 2, v = (.01, .04), c
    /// = .01:
    /// 3.846341 θ² - 2 · 1.961585 θ + .961585 = 0, θ = (1.961585 ± √(3.847817 - 3.698586)) / 3.846341.
    #[test]
    fn ends_by_hand() {
        let spread = Covariance { first: 0.01, second: 0.04, both: 0.01 };
        let got = ratio([1.0, 2.0], spread, 1e9).unwrap();
        let z2 = NORMAL * NORMAL;
        let (square, line, level) = (4.0 - z2 * 0.04, 2.0 - z2 * 0.01, 1.0 - z2 * 0.01);
        let root = (line * line - square * level).sqrt();
        assert!(
            (got.lower - (line - root) / square).abs() < 1e-8 && (got.lower - 0.409_553).abs() < 2e-6,
            "{got:?}"
        );
        for theta in [got.lower, got.upper] {
            let variance = spread.first - 2.0 * theta * spread.both + theta * theta * spread.second;
            assert!(((1.0 - theta * 2.0).abs() - NORMAL * variance.sqrt()).abs() < 1e-7, "{theta}");
        }
        // Turned round, the interval is turned round.
        let turned = ratio([2.0, 1.0], Covariance { first: 0.04, second: 0.01, both: 0.01 }, 1e9).unwrap();
        assert!(
            (turned.lower - 1.0 / got.upper).abs() < 1e-9 && (turned.upper - 1.0 / got.lower).abs() < 1e-9
        );
    }

    /// Without each of five: deviations (-2, -1, 0, 1, 2) of both turned round, 4/5 of 10 and of -10.
    #[test]
    fn of_what_is_left_without_each_cluster() {
        let got = Covariance::jackknife(&[1.0, 2.0, 3.0, 4.0, 5.0], &[9.0, 8.0, 7.0, 6.0, 5.0], 5.0).unwrap();
        assert_eq!(got, Covariance { first: 8.0, second: 8.0, both: -8.0 });
        assert_eq!(got.times(0.5), Covariance { first: 4.0, second: 4.0, both: -4.0 });
        assert!(Covariance::jackknife(&[1.0; 4], &[1.0; 4], 4.0).is_err());
    }

    #[test]
    fn what_cannot_be_promised_is_named() {
        let spread = Covariance { first: 0.01, second: 1.0, both: 0.0 };
        assert_eq!(ratio([1.0, 1.0], spread, 10.0), Err(NoInterval::Denominator));
        assert_eq!(
            ratio([1.0, 1.0], Covariance { first: 0.0, second: 0.0, both: 0.0 }, 10.0),
            Err(NoInterval::Constant)
        );
        assert!(ratio([f64::NAN, 1.0], Covariance { second: 0.0, ..spread }, 10.0).is_err());
    }
}
