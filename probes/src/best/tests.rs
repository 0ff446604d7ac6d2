//! Luck and choice: equal layers, a planted one, hostile input.

use super::*;
use crate::draw::draw;
use crate::{Interval, Intervals, Method, Resamples, Weightings};

fn weightings() -> Weightings {
    let rows: Vec<u64> = (0..200).collect();
    Weightings::new(&rows, Intervals::new(Method::Jackknife, Resamples::new(1, 1000))).unwrap()
}

/// Right or wrong of 200 rows of their own, for layers of these true accuracies; half the luck is common to all.
fn layers(weightings: &Weightings, seed: u64, accuracies: &[f64]) -> Vec<Draws> {
    let uniform =
        |id: u64, row: u64| draw(seed, b"layerscope/test of best!", id, row) as f64 / 2.0_f64.powi(64);
    let layer = |(i, &accuracy): (usize, &f64)| {
        let right = (0..200).map(|row| {
            let common = uniform(1000, row) < 0.5;
            let luck = if common { uniform(0, row) } else { uniform(1 + i as u64, row) };
            f64::from(u8::from(luck < accuracy))
        });
        weightings.mean(&right.collect::<Vec<_>>()).unwrap()
    };
    accuracies.iter().enumerate().map(layer).collect()
}

#[test]
fn equal_layers_are_tied_and_the_maximum_is_brought_down() {
    let (mut naive, mut corrected, mut covered, mut all_kept) = (0.0, 0.0, 0, 0);
    let (runs, weightings) = (150, weightings());
    for seed in 0..runs {
        let layers = layers(&weightings, seed, &[0.7; 13]);
        let found = best(&layers).unwrap();
        naive += layers[found.place].value - 0.7;
        corrected += found.corrected.estimate - 0.7;
        let Interval { lower, upper } = found.corrected.interval.unwrap();
        covered += u32::from(lower <= 0.7 && 0.7 <= upper);
        assert!(lower < found.corrected.estimate && found.corrected.estimate < upper);
        all_kept += u32::from(found.tied[0]); // any one layer is truly best
    }
    let n = f64::from(u32::try_from(runs).unwrap());
    // The standard error of one layer is 0.032; the highest of 13 that share half their luck is 1.2 of it too high.
    assert!(naive / n > 0.03, "{}", naive / n);
    assert!((corrected / n).abs() < 0.5 * naive / n, "{} of {}", corrected / n, naive / n);
    assert!(covered >= 135, "{covered} of 150"); // 95 % is 142.5, standard deviation 2.7
    assert!(all_kept >= 135, "{all_kept} of 150");
}

#[test]
fn a_planted_best_layer_is_found() {
    let weightings = weightings();
    for seed in 0..20 {
        let found = best(&layers(&weightings, seed, &[0.5, 0.6, 0.95, 0.6])).unwrap();
        assert_eq!((found.place, found.tied), (2, vec![false, false, true, false]), "seed {seed}");
    }
    // Nothing to choose between: hardly any optimism.
    let layers = layers(&weightings, 3, &[0.5, 0.95]);
    let found = best(&layers).unwrap();
    assert!((found.corrected.estimate - layers[1].value).abs() < 0.005);
}

#[test]
fn a_loss_is_negated_and_copies_are_tied() {
    let one = layers(&weightings(), 4, &[0.6, 0.9]);
    let losses = [one[1].negated(), one[0].negated(), one[0].negated()];
    let found = best(&losses).unwrap();
    assert_eq!((found.place, found.tied), (1, vec![false, true, true]));
    assert_eq!(best(&one[..1]).unwrap().tied, [true]);
}

#[test]
fn of_one_layer_the_interval_is_the_percentile_interval_and_of_more_it_is_wider() {
    let rows: Vec<u64> = (0..200).collect();
    let weightings = Weightings::new(&rows, Intervals::bootstrap(1, 1000)).unwrap();
    let layers = layers(&weightings, 9, &[0.7, 0.7, 0.7]);
    let single = layers[0].estimate();
    let same = best(&layers[..1]).unwrap().corrected;
    assert!((same.lower().unwrap() - single.lower().unwrap()).abs() < 2e-3);
    assert!((same.upper().unwrap() - single.upper().unwrap()).abs() < 2e-3);
    let found = best(&layers).unwrap();
    let (one, all) = (layers[found.place].estimate(), found.corrected);
    assert!(all.lower() < one.lower() && all.upper() > one.upper());
}

#[test]
fn without_resamples_nothing_is_claimed() {
    let weightings = Weightings::new(&[1, 2], Intervals::bootstrap(0, 0)).unwrap();
    let layers = [weightings.mean(&[0.0, 1.0]).unwrap(), weightings.mean(&[1.0, 1.0]).unwrap()];
    let found = best(&layers).unwrap();
    assert_eq!((found.place, found.tied), (1, vec![true, true]));
    assert_eq!((found.corrected.estimate, found.corrected.lower()), (1.0, None));
}

#[test]
fn bad_layers_are_refused() {
    assert!(matches!(best(&[]), Err(Error::Empty)));
    let mut layers = layers(&weightings(), 0, &[0.5, 0.6]);
    layers[1].value = f64::NAN;
    assert!(matches!(best(&layers), Err(Error::NoValue { place: 1 })));
    layers[1].values.pop();
    assert!(matches!(best(&layers), Err(Error::Unpaired { what: "replicates", .. })));
}
