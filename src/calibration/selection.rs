//! The best of several layers: what choosing does to its value.

use layerscope_probes::{Draws, Error, Intervals, Weightings, best, chosen};
use rayon::prelude::*;
use serde::Serialize;

use super::random::Random;

/// Layers, all of one true accuracy: whichever is chosen, that is its truth.
const LAYERS: usize = 13;
const ACCURACY: f64 = 0.75;

/// What is said of a chosen layer, over many samples of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Selection {
    /// Items of the test part, each its own group; the validation part has half as many.
    pub items: usize,
    /// Samples.
    pub samples: usize,
    /// How much too high the highest test accuracy is, on average.
    pub highest_excess: f64,
    /// The same of the highest less its optimism (`best_accuracy`).
    pub corrected_excess: f64,
    /// Share of its intervals that hold the truth.
    pub corrected_coverage: f64,
    /// How much too high the test accuracy of the layer chosen on the validation part is (`nested_accuracy`).
    pub nested_excess: f64,
    /// Share of its intervals that hold the truth.
    pub nested_coverage: f64,
}

/// Draws `samples` sets of each size.
///
/// # Errors
/// [`Error`]
pub fn selection(sizes: &[usize], samples: usize, seed: u64) -> Result<Vec<Selection>, Error> {
    sizes.iter().map(|items| of_size(*items, samples, seed)).collect()
}

/// What one sample says: excesses, and whether intervals hold the truth.
struct SampleFindings {
    highest: f64,
    corrected: (f64, bool),
    nested: (f64, bool),
}

fn of_size(items: usize, samples: usize, seed: u64) -> Result<Selection, Error> {
    let one =
        |sample: usize| findings(items, &mut Random::new(seed, (1 << 51) + (items << 24 | sample) as u64));
    let all = (0..samples).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mean = |of: &dyn Fn(&SampleFindings) -> f64| all.iter().map(of).sum::<f64>() / samples.max(1) as f64;
    let share = |of: &dyn Fn(&SampleFindings) -> bool| mean(&|findings| f64::from(u8::from(of(findings))));
    Ok(Selection {
        items,
        samples,
        highest_excess: mean(&|s| s.highest),
        corrected_excess: mean(&|s| s.corrected.0),
        corrected_coverage: share(&|s| s.corrected.1),
        nested_excess: mean(&|s| s.nested.0),
        nested_coverage: share(&|s| s.nested.1),
    })
}

fn findings(items: usize, random: &mut Random) -> Result<SampleFindings, Error> {
    // Half of the luck is common to all layers, as it is of layers of one model.
    let rows = |n: usize, random: &mut Random| -> Vec<Vec<f64>> {
        let common: Vec<(bool, f64)> = (0..n).map(|_| (random.uniform() < 0.5, random.uniform())).collect();
        let row = |(shared, luck): &(bool, f64), random: &mut Random| {
            let own = random.uniform();
            f64::from(u8::from((if *shared { *luck } else { own }) < ACCURACY))
        };
        (0..LAYERS).map(|_| common.iter().map(|item| row(item, random)).collect()).collect()
    };
    let validation: Vec<f64> = rows(items / 2, random).iter().map(|rows| rows.iter().sum()).collect();
    let groups: Vec<u64> = (0..items as u64).collect();
    let weightings = Weightings::new(&groups, Intervals::default())?;
    let test: Vec<Draws> =
        rows(items, random).iter().map(|rows| weightings.mean(rows)).collect::<Result<_, _>>()?;
    let found = best(&test)?;
    let nested = test[chosen(&validation).unwrap_or(0)].estimate();
    let holds = |e: &layerscope_probes::Estimate| {
        e.interval.is_ok_and(|i| i.lower <= ACCURACY && ACCURACY <= i.upper)
    };
    Ok(SampleFindings {
        highest: test[found.place].value - ACCURACY,
        corrected: (found.corrected.estimate - ACCURACY, holds(&found.corrected)),
        nested: (nested.estimate - ACCURACY, holds(&nested)),
    })
}
