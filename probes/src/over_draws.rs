//! Numbers that depend on a draw of labels: of a control task, of a shuffle, of an order.
//!
//! Each draw's number is measured on the same rows, and their mean is quoted. Two things move it: which rows were
//! sampled, and which labels were drawn. Their variances are added, as those within and between imputations are (Rubin
//! 1987, *Multiple imputation for nonresponse in surveys*):
//!
//! ```text
//! half = t(ν) √(U + B / D)                              U   variance of the mean over draws as rows are sampled
//! ν = (U + B / D)² / (U² / ν_rows + (B / D)² / (D - 1))   B   variance of the D draws' numbers
//! ```
//!
//! with the degrees of freedom put together as Satterthwaite (1946, Biometrics 2) does, and `ν_rows = n_eff - 1`. B has
//! a part of the sampling error in it, as far as that differs from draw to draw; the interval is rather too wide.

use crate::interval::{Interval, NoInterval, Spread, student};
use crate::{Draws, Error, Estimate};

/// The mean of one number of several draws, with an interval that has both the sampling of the rows and the draw in it.
/// Of one draw nothing is known of the others: no interval.
///
/// # Errors
/// [`Error::Empty`] without a draw, [`Error::Unpaired`] when they are not of one [`crate::Weightings`].
pub fn over_draws(draws: &[Draws]) -> Result<Estimate, Error> {
    let mean = mean_of(draws)?;
    let interval = match between(draws) {
        None => Err(NoInterval::NotSampled("one draw of labels")),
        Some(between) => mean.spread().and_then(|rows| both(mean.value, rows, between, draws.len())),
    };
    Ok(Estimate { interval, ..mean.estimate() })
}

/// The interval of a mean over `n` draws that has the variance `between` for them, and the spread `rows` for the rows.
fn both(estimate: f64, rows: Spread, between: f64, n: usize) -> Result<Interval, NoInterval> {
    let variance = rows.variance + between;
    if variance == 0.0 {
        return Err(NoInterval::Constant);
    }
    let degrees =
        variance.powi(2) / (rows.variance.powi(2) / (rows.n_eff - 1.0) + between.powi(2) / (n as f64 - 1.0));
    let half = student(degrees) * variance.sqrt();
    Ok(Interval { lower: estimate - half, upper: estimate + half })
}

/// The mean of paired numbers.
fn mean_of(draws: &[Draws]) -> Result<Draws, Error> {
    let (first, rest) = draws.split_first().ok_or(Error::Empty)?;
    // a + b as a - (-b): differences are what paired numbers have.
    let sum = rest.iter().try_fold(first.clone(), |sum, draw| sum.minus(&draw.negated()))?;
    let n = draws.len() as f64;
    Ok(sum.map(|sum| sum / n))
}

/// Variance of the mean over draws of which these are a sample, B / D; none of one.
fn between(draws: &[Draws]) -> Option<f64> {
    let n = draws.len() as f64;
    let mean = draws.iter().map(|draw| draw.value).sum::<f64>() / n;
    let squares: f64 = draws.iter().map(|draw| (draw.value - mean).powi(2)).sum();
    (draws.len() > 1).then(|| squares / (n - 1.0) / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{stream, uniform};
    use crate::score::correct;
    use crate::{ControlTask, Intervals, TypeMajority, Weightings};

    #[test]
    fn by_hand() {
        let weightings = Weightings::new(&[1, 2, 3, 4, 5, 6], Intervals::default()).unwrap();
        let draws = [0.2, 0.4, 0.9].map(|v| weightings.mean(&[v; 6]).unwrap());
        // The rows do not differ: the draws alone do. Mean 0.5, s² = (0.09 + 0.01 + 0.16) / 2.
        let found = over_draws(&draws).unwrap();
        let half = 4.302_652_73 * (0.13_f64 / 3.0).sqrt();
        assert!((found.estimate - 0.5).abs() < 1e-12 && found.n == 6);
        assert!(
            (found.upper().unwrap() - 0.5 - half).abs() < 1e-9
                && (0.5 - found.lower().unwrap() - half).abs() < 1e-9
        );
        // Draws that agree leave the interval of the rows (a mean of shares is no share).
        let one = weightings.mean(&[0.0, 1.0, 1.0, 0.0, 1.0, 1.0]).unwrap();
        let same = over_draws(&[one.clone(), one.clone()]).unwrap();
        assert!((same.lower().unwrap() - one.map(|v| v).estimate().lower().unwrap()).abs() < 1e-12);
        let alone = over_draws(std::slice::from_ref(&one)).unwrap();
        assert_eq!(
            (alone.estimate, alone.interval),
            (one.value, Err(NoInterval::NotSampled("one draw of labels")))
        );
        assert!(matches!(over_draws(&[]), Err(Error::Empty)));
        let other = Weightings::new(&[1, 2], Intervals::default()).unwrap().mean(&[0.0, 1.0]).unwrap();
        assert!(matches!(over_draws(&[one, other]), Err(Error::Unpaired { .. })));
    }

    /// Words of a language: few types make up most of the text. A probe that knows the commonest label of every type.
    struct World {
        train: Vec<u64>,
        labels: Vec<u32>,
    }

    const TEST: u64 = 300;

    impl World {
        /// `n` words of 40 types, type t with probability ∝ 1 / (t + 1).
        fn words(n: u64, seed: u64) -> Vec<u64> {
            let mut random = stream(seed, b"layerscope/test of types", 0);
            let total: f64 = (1..=40).map(|t| 1.0 / f64::from(t)).sum();
            let word = |u: f64| {
                let mut left = u * total;
                (0..40_u64)
                    .find(|t| {
                        left -= 1.0 / (*t as f64 + 1.0);
                        left <= 0.0
                    })
                    .unwrap_or(39)
            };
            (0..n).map(|_| word(uniform(&mut random))).collect()
        }

        fn new() -> Self {
            let train = Self::words(30, 1);
            let labels = train.iter().map(|t| u32::from(t % 3 == 0)).collect();
            Self { train, labels }
        }

        /// 1 where the probe fitted to draw number `draw` of control labels is right.
        fn control(&self, test: &[u64], seed: u64, draw: u64) -> Vec<f64> {
            let task = ControlTask::new(&self.labels, 2, seed, draw).unwrap();
            self.right(&task.labels(&self.train), test, &task.labels(test))
        }

        fn task(&self, test: &[u64]) -> Vec<f64> {
            let truth: Vec<u32> = test.iter().map(|t| u32::from(t % 3 == 0)).collect();
            self.right(&self.labels, test, &truth)
        }

        fn right(&self, labels: &[u32], test: &[u64], truth: &[u32]) -> Vec<f64> {
            let probe = TypeMajority::fit(&self.train, labels, 2).unwrap();
            correct(&probe.predict(test), truth).unwrap()
        }

        /// Selectivity as `n` draws say it, then the interval of one draw that knows nothing of the others.
        fn selectivity(&self, seed: u64, n: u64) -> (Estimate, Estimate) {
            let test = Self::words(TEST, 1000 + seed);
            let groups: Vec<u64> = (0..TEST).map(|row| row / 3).collect();
            let weightings = Weightings::new(&groups, Intervals::default()).unwrap();
            let task = weightings.mean(&self.task(&test)).unwrap();
            let one = |draw| task.minus(&weightings.mean(&self.control(&test, seed, draw)).unwrap()).unwrap();
            let draws: Vec<Draws> = (0..n).map(one).collect();
            (over_draws(&draws).unwrap(), draws[0].estimate())
        }
    }

    /// How often the interval has the selectivity that all draws and a large test set have: .95 of the time with five
    /// draws, much less when the draw is left out.
    #[test]
    fn the_interval_covers_what_all_draws_say() {
        let world = World::new();
        let large = World::words(20_000, 7);
        let mean = |right: Vec<f64>| right.iter().sum::<f64>() / right.len() as f64;
        let control: f64 = (0..400).map(|draw| mean(world.control(&large, 99, draw))).sum::<f64>() / 400.0;
        let truth = mean(world.task(&large)) - control;
        let covers = |e: &Estimate| e.lower().unwrap() <= truth && truth <= e.upper().unwrap();
        let runs = 400_u32;
        let found: Vec<_> = (0..runs).map(|seed| world.selectivity(u64::from(seed), 5)).collect();
        let share = |of: &dyn Fn(&(Estimate, Estimate)) -> bool| {
            f64::from(found.iter().filter(|found| of(found)).count() as u32) / f64::from(runs)
        };
        let (several, alone) = (share(&|found| covers(&found.0)), share(&|found| covers(&found.1)));
        // A share of .95 in 400 has a standard deviation of .011.
        assert!((0.93..=0.98).contains(&several), "{several}");
        assert!(alone < 0.90, "{alone}");
    }
}
