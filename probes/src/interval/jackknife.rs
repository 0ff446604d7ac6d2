use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::{FEWEST, Interval, NoInterval};

/// How far an estimate of other clusters would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The jackknife's variance of the estimate.
    pub variance: f64,
    /// Effective clusters.
    pub n_eff: f64,
}

/// The spread of an estimate from its values without each cluster in turn, `v = (G - 1)/G Σ (θ₋g - mean θ₋)²` (Efron
/// 1982; of a regression it is the cluster-robust variance CV3J of `MacKinnon`, Nielsen & Webb 2023, J. Econometrics
/// 232).
///
/// # Errors
/// [`NoInterval::FewClusters`], [`NoInterval::Undefined`] for a value that is NaN or infinite.
pub fn jackknife(left_out: &[f64], n_eff: f64) -> Result<Spread, NoInterval> {
    if n_eff < FEWEST || left_out.len() < FEWEST as usize {
        return Err(NoInterval::FewClusters { n_eff });
    }
    if left_out.iter().any(|x| !x.is_finite()) {
        return Err(NoInterval::Undefined);
    }
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let variance = (n - 1.0) / n * left_out.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    // What rounding leaves of equal values is no spread: each is a quotient of sums, of relative error ε times a few.
    let noise = 64.0 * f64::EPSILON * left_out.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    Ok(Spread { variance: if variance <= n * noise * noise { 0.0 } else { variance }, n_eff })
}

impl Spread {
    /// Of clusters in the order of one text, whose neighbours are alike: the variance times `(1 + ρ)/(1 - ρ)` and as
    /// many fewer effective clusters, ρ the correlation of neighbours' influence with its bias of `(1 + 4ρ)/G` put back
    /// (an autoregression of order one: Andrews 1991, Econometrica 59; Marriott & Pope 1954, Biometrika 41). A negative
    /// ρ changes nothing.
    ///
    /// # Errors
    /// [`NoInterval::FewClusters`] when too few are left.
    pub fn serial(self, left_out: &[f64]) -> Result<Self, NoInterval> {
        let n = left_out.len() as f64;
        let mean = left_out.iter().sum::<f64>() / n;
        let squares: f64 = left_out.iter().map(|x| (x - mean).powi(2)).sum();
        if squares == 0.0 {
            return Ok(self);
        }
        let products: f64 = left_out.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
        let raw = products / squares;
        let rho = (raw + (1.0 + 4.0 * raw) / n).clamp(0.0, 0.95);
        let factor = (1.0 + rho) / (1.0 - rho);
        let n_eff = self.n_eff / factor;
        if n_eff < FEWEST {
            return Err(NoInterval::FewClusters { n_eff });
        }
        Ok(Self { variance: self.variance * factor, n_eff })
    }

    /// Of an estimate that rests on two independent samples, this one's clusters and the other's: variances add, and
    /// the smaller number of effective clusters is taken, which is never too many (Satterthwaite 1946 has a number
    /// between it and the sum).
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { variance: self.variance + other.variance, n_eff: self.n_eff.min(other.n_eff) }
    }

    /// `estimate ± t(n_eff - 1) √v`.
    ///
    /// # Errors
    /// [`NoInterval::Constant`] without any spread, for that of few is no promise about others.
    pub fn around(self, estimate: f64) -> Result<Interval, NoInterval> {
        if self.variance == 0.0 {
            return Err(NoInterval::Constant);
        }
        Interval::around(estimate, student(self.n_eff - 1.0) * self.variance.sqrt())
    }
}

/// The 97.5 % quantile of the normal distribution.
pub const NORMAL: f64 = 1.959_963_984_540_054;

/// The 97.5 % quantile of Student's t; infinite without a degree of freedom.
pub fn student(degrees: f64) -> f64 {
    // Above, the library loses digits and in the end does not return; the expansion (Abramowitz & Stegun 26.7.5) is
    // within 3e-8 there.
    if degrees > 1e4 {
        return NORMAL + (NORMAL.powi(3) + NORMAL) / (4.0 * degrees);
    }
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of 1, 2, 3, 4, 10: leave-one-out means 19/4, 18/4, 17/4, 16/4, 10/4, whose variance is s²/n = 12.5/5 of
    /// the mean 4.
    #[test]
    fn of_a_mean_it_is_the_standard_error() {
        let left_out: Vec<f64> = [1.0, 2.0, 3.0, 4.0, 10.0].iter().map(|x| (20.0 - x) / 4.0).collect();
        let spread = jackknife(&left_out, 5.0).unwrap();
        assert!((spread.variance - 2.5).abs() < 1e-12);
        let got = spread.around(4.0).unwrap();
        // t(4) = 2.776445.
        assert!((got.upper - (4.0 + 2.776_445_105_2 * 2.5_f64.sqrt())).abs() < 1e-8);
        assert!((got.lower + got.upper - 8.0).abs() < 1e-12);
    }

    /// `scipy.stats.t.ppf(0.975, [1, 3.7, 29, 9999, 10001, 1e9])`
    #[test]
    fn quantiles_are_those_of_scipy() {
        let expected = [
            (1.0, 12.706_204_736_175),
            (3.7, 2.867_520_707_191),
            (29.0, 2.045_229_642_133),
            (9999.0, 1.960_201_263_622),
            (10_001.0, 1.960_201_216_165),
            (1e9, 1.959_963_986_913),
        ];
        for (degrees, quantile) in expected {
            assert!((student(degrees) - quantile).abs() < 3e-8, "{degrees}: {}", student(degrees));
        }
        assert_eq!(student(0.0), f64::INFINITY);
    }

    #[test]
    fn what_cannot_be_promised_is_named() {
        assert_eq!(jackknife(&[1.0; 4], 4.0), Err(NoInterval::FewClusters { n_eff: 4.0 }));
        assert_eq!(jackknife(&[1.0; 40], 4.9), Err(NoInterval::FewClusters { n_eff: 4.9 }));
        assert_eq!(jackknife(&[1.0, 2.0, f64::NAN, 1.0, 1.0], 5.0), Err(NoInterval::Undefined));
        assert_eq!(
            jackknife(&[0.1 + 0.2, 0.3, 0.3, 0.3, 0.3], 5.0).unwrap().around(0.3),
            Err(NoInterval::Constant)
        );
    }

    #[test]
    fn two_samples_add() {
        let (a, b) = (Spread { variance: 0.5, n_eff: 9.0 }, Spread { variance: 0.25, n_eff: 7.0 });
        assert_eq!(a.and(b), Spread { variance: 0.75, n_eff: 7.0 });
    }

    /// 1, 2, … 10 in order: deviations -4.5 … 4.5, squares 82.5, neighbours' products 57.75: r = .7; put back (1 +
    /// 2.8)/10: 1.08, held at .95, a factor of 39. In turn high and low: r < 0, no change.
    #[test]
    fn neighbours_that_are_alike_widen() {
        let rising: Vec<f64> = (1..=10).map(f64::from).collect();
        let spread = Spread { variance: 1.0, n_eff: 390.0 };
        let got = spread.serial(&rising).unwrap();
        assert!((got.variance - 39.0).abs() < 1e-9 && (got.n_eff - 10.0).abs() < 1e-9, "{got:?}");
        let turns: Vec<f64> = (0..10).map(|i| f64::from(i % 2)).collect();
        assert_eq!(spread.serial(&turns), Ok(spread));
        let few = Spread { variance: 1.0, n_eff: 10.0 };
        assert!(matches!(few.serial(&rising), Err(NoInterval::FewClusters { n_eff }) if n_eff < 1.0));
    }
}
