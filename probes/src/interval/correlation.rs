use super::{Interval, NoInterval, Spread, student};

/// The interval of a correlation, which stays in -1..1: symmetric for Fisher's z = atanh r (1921, Metron 1), whose
/// standard error is that of r over 1 - r². At 1 and -1, where z has no end, symmetric for r and cut off.
///
/// # Errors
/// [`NoInterval::Constant`] without any spread, [`NoInterval::Undefined`] for what is no correlation.
pub fn correlation(r: f64, spread: Spread) -> Result<Interval, NoInterval> {
    // A quotient of sums, whose rounding may leave it just outside.
    if !(-1.0 - 1e-9..=1.0 + 1e-9).contains(&r) {
        return Err(NoInterval::Undefined);
    }
    if spread.variance == 0.0 {
        return Err(NoInterval::Constant);
    }
    let half = student(spread.n_eff - 1.0) * spread.variance.sqrt();
    let slope = 1.0 - r * r;
    if slope < 1e-9 {
        return Interval::around(r, half)
            .map(|i| Interval { lower: i.lower.max(-1.0).min(r), upper: i.upper.min(1.0).max(r) });
    }
    let (z, half) = (r.atanh(), half / slope);
    let (lower, upper) = ((z - half).tanh(), (z + half).tanh());
    if lower.is_nan() || upper.is_nan() { Err(NoInterval::Undefined) } else { Ok(Interval { lower, upper }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// r = .6, se .064 of 31: t(30) = 2.042272, half of z .1 · 2.042272; `numpy.tanh(numpy.arctanh(.6) ± .2042272)`.
    #[test]
    fn it_is_fishers_and_stays_inside() {
        let spread = Spread { variance: 0.064_f64.powi(2), n_eff: 31.0 };
        let got = correlation(0.6, spread).unwrap();
        let (lower, upper) = (0.453_358_778, 0.715_017_027);
        assert!((got.lower - lower).abs() < 2e-6 && (got.upper - upper).abs() < 2e-6, "{got:?}");
        let wide = Spread { variance: 1.0, n_eff: 5.0 };
        for r in [-1.0, -0.999, 0.0, 0.999, 1.0, 1.0 + 1e-12] {
            let got = correlation(r, wide).unwrap();
            assert!(
                -1.0 <= got.lower && got.lower <= r && r <= got.upper && got.upper <= r.max(1.0),
                "{r}: {got:?}"
            );
        }
        assert_eq!(correlation(0.5, Spread { variance: 0.0, n_eff: 9.0 }), Err(NoInterval::Constant));
        assert_eq!(correlation(1.1, wide), Err(NoInterval::Undefined));
        assert_eq!(correlation(f64::NAN, wide), Err(NoInterval::Undefined));
    }
}
