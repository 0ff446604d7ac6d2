use super::{Interval, NoInterval};

/// The 2.5 % and 97.5 % quantiles of a number over resamples; NaN where it is undefined, which at most `undefined` of
/// them may be.
///
/// # Errors
/// [`NoInterval::NoReplicates`], and [`NoInterval::Undefined`] for too many undefined values or an infinite end.
pub fn percentile(mut values: Vec<f64>, undefined: f64) -> Result<Interval, NoInterval> {
    let all = values.len();
    if all == 0 {
        return Err(NoInterval::NoReplicates);
    }
    values.retain(|v| !v.is_nan());
    if values.is_empty() || (all - values.len()) as f64 > undefined * all as f64 {
        return Err(NoInterval::Undefined);
    }
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (quantile(&values, 0.025), quantile(&values, 0.975));
    if lower.is_finite() && upper.is_finite() {
        Ok(Interval { lower, upper })
    } else {
        Err(NoInterval::Undefined)
    }
}

/// Quantile of sorted values, linear between neighbours (definition 7 of Hyndman & Fan 1996, `numpy`'s default).
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    if low == high { low } else { low + (high - low) * place.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of a hundred may be undefined, two may not.
    #[test]
    fn undefined_replicates_are_left_out_up_to_one_in_a_hundred() {
        let with = |undefined: usize| {
            let mut replicates = vec![1.0; 100];
            replicates[..undefined].fill(f64::NAN);
            percentile(replicates, 0.01).map(|i| i.upper)
        };
        assert_eq!([0, 1, 2].map(with), [Ok(1.0), Ok(1.0), Err(NoInterval::Undefined)]);
        for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(
                percentile([vec![1.0; 40], vec![infinite; 60]].concat(), 0.01),
                Err(NoInterval::Undefined)
            );
        }
        assert_eq!(percentile(vec![1.0, f64::INFINITY], 0.01), Err(NoInterval::Undefined));
        assert_eq!(percentile(Vec::new(), 0.01), Err(NoInterval::NoReplicates));
        assert_eq!(percentile(vec![1.0, 2.0], 0.01), Ok(Interval { lower: 1.025, upper: 1.975 }));
    }
}
