//! The best of several layers: which others may be the best too, and how good the best one is when it was chosen
//! on the very rows it is measured on.
//!
//! - **Tied.** A layer stays when the lead of the layers above it is no more than chance gives a best layer: the largest
//!   studentised lead `max_j (θ̂_j - θ̂_i) / se_ij` is compared with its 95 % quantile over centred resamples. The set holds
//!   the truly best layer in 95 % of samples (subset selection, Gupta 1965; bootstrapped as in Mogstad, Romano, Shaikh &
//!   Wilhelm 2024, "Inference for ranks", Rev. Econ. Stud. 91).
//! - **Corrected.** The highest of several estimates is too high. The choice is made again in each resample, and the mean
//!   excess of the chosen layer's resampled value over its value is the optimism that is taken off (Efron & Gong 1983, "A
//!   leisurely look at the bootstrap").
//! - **Interval.** Percentile intervals of *all* layers at once, widened until 95 % of the resamples are within all of them
//!   (the quantile-based sup-t band of Montiel Olea & Plagborg-Møller 2019, "Simultaneous confidence bands", J. Appl.
//!   Econometrics 34). It holds whatever the choice, hence for the chosen layer; of one layer it is the percentile interval.
//!
//! The correction is partial: where all of 13 layers are truly equal, about a third of the excess is left.
//!
//! A layer chosen on a validation part and measured on the test part needs none of this.

use crate::bootstrap::{Estimate, quantile};
use crate::{Draws, Error};

/// The best of several numbers measured on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The place of the highest value, the first of equal ones.
    pub place: usize,
    /// Which cannot be told from the best.
    pub tied: Vec<bool>,
    /// The best one's value less the optimism of having chosen it, with an interval that allows for the choice; no interval
    /// where single layers have none.
    pub corrected: Estimate,
}

/// The highest of `layers`, which must come from one [`crate::Bootstrap`]; for a loss, give [`Draws::negated`].
///
/// Resamples in which some layer has no value are left out. Without resamples nothing is told apart (all are tied) and
/// nothing is corrected.
///
/// # Errors
/// [`Error::Empty`] without layers, [`Error::Unpaired`], and [`Error::NoValue`] for a layer whose value is NaN or infinite.
pub fn best(layers: &[Draws]) -> Result<Best, Error> {
    let first = layers.first().ok_or(Error::Empty)?;
    layers.iter().try_for_each(|layer| first.paired_with(layer))?;
    if let Some(place) = layers.iter().position(|layer| !layer.value.is_finite()) {
        return Err(Error::NoValue { place });
    }
    let errors = Errors::new(layers);
    let place = highest(&errors.values);
    let tied = (0..layers.len()).map(|layer| errors.may_be_best(layer)).collect();
    let known = layers.iter().all(|layer| layer.estimate().lower.is_some()) && !errors.errors.is_empty();
    let bounds = known.then(|| errors.bounds(place));
    let corrected = Estimate {
        estimate: errors.values[place] - errors.optimism(),
        lower: bounds.map(|b| b.0),
        upper: bounds.map(|b| b.1),
        ..first.estimate()
    };
    Ok(Best { place, tied, corrected })
}

fn highest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Values and what resampling makes of them.
struct Errors {
    values: Vec<f64>,
    /// θ* - θ̂, `[replicates][layers]`.
    errors: Vec<Vec<f64>>,
}

impl Errors {
    fn new(layers: &[Draws]) -> Self {
        let values: Vec<f64> = layers.iter().map(|layer| layer.value).collect();
        let error = |replicate: usize| -> Vec<f64> {
            layers.iter().map(|layer| layer.replicates[replicate] - layer.value).collect()
        };
        let errors = (0..layers[0].replicates.len()).map(error);
        let errors = errors.filter(|errors| errors.iter().all(|e| e.is_finite())).collect();
        Self { values, errors }
    }

    /// Whether chance may have put the other layers above this one.
    fn may_be_best(&self, layer: usize) -> bool {
        if self.errors.is_empty() {
            return true;
        }
        let others = (0..self.values.len()).filter(|&other| other != layer);
        let scale: Vec<(usize, f64)> =
            others.map(|other| (other, deviation(self.errors.iter().map(|e| e[other] - e[layer])))).collect();
        let largest = |lead: &dyn Fn(usize) -> f64| {
            let studentised = scale.iter().map(|&(other, se)| ratio(lead(other), se));
            studentised.fold(f64::NEG_INFINITY, f64::max)
        };
        let lead = largest(&|other| self.values[other] - self.values[layer]);
        let mut chance: Vec<f64> =
            self.errors.iter().map(|e| largest(&|other| e[other] - e[layer])).collect();
        chance.sort_unstable_by(f64::total_cmp);
        // A quantile between -∞ and ∞ is no number, and excludes nothing.
        let bound = quantile(&chance, 0.95);
        lead <= 0.0 || bound.is_nan() || lead <= bound
    }

    /// The mean error of the layer chosen in each resample.
    fn optimism(&self) -> f64 {
        let chosen = |errors: &Vec<f64>| {
            let resampled: Vec<f64> = self.values.iter().zip(errors).map(|(v, e)| v + e).collect();
            errors[highest(&resampled)]
        };
        let n = self.errors.len().max(1) as f64;
        self.errors.iter().map(chosen).sum::<f64>() / n
    }

    /// Bounds of one layer that hold for all at once.
    fn bounds(&self, layer: usize) -> (f64, f64) {
        let n = self.errors.len();
        let sorted = |layer: usize| {
            let mut errors: Vec<f64> = self.errors.iter().map(|e| e[layer]).collect();
            errors.sort_unstable_by(f64::total_cmp);
            errors
        };
        // The depth of a resample: how many others are as far out, in the layer where it is furthest out.
        let mut depths = vec![n; n];
        for i in 0..self.values.len() {
            let sorted = sorted(i);
            for (depth, error) in depths.iter_mut().zip(&self.errors) {
                let below = sorted.partition_point(|&other| other <= error[i]);
                let above = n - sorted.partition_point(|&other| other < error[i]);
                *depth = (*depth).min(below).min(above);
            }
        }
        depths.sort_unstable();
        let depth = depths[n / 20]; // at least 95 % are as deep
        let sorted = sorted(layer);
        (self.values[layer] + sorted[depth - 1], self.values[layer] + sorted[n - depth])
    }
}

/// Standard deviation.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (values.map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// `error / se`; what does not vary has no error, and a lead that does not vary is beyond chance.
fn ratio(error: f64, se: f64) -> f64 {
    if se > 1e-12 * error.abs() {
        error / se
    } else if error == 0.0 {
        0.0
    } else {
        error.signum() * f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::draw;
    use crate::{Bootstrap, Resamples};

    fn bootstrap() -> Bootstrap {
        let rows: Vec<u64> = (0..200).collect();
        Bootstrap::new(&rows, Resamples::new(1, 1000)).unwrap()
    }

    /// Right or wrong of 200 rows of their own, for layers of these true accuracies; half the luck is common to all.
    fn layers(bootstrap: &Bootstrap, seed: u64, accuracies: &[f64]) -> Vec<Draws> {
        let uniform =
            |id: u64, row: u64| draw(seed, b"layerscope/test of best!", id, row) as f64 / 2.0_f64.powi(64);
        let layer = |(i, &accuracy): (usize, &f64)| {
            let right = (0..200).map(|row| {
                let common = uniform(1000, row) < 0.5;
                let luck = if common { uniform(0, row) } else { uniform(1 + i as u64, row) };
                f64::from(u8::from(luck < accuracy))
            });
            bootstrap.mean(&right.collect::<Vec<_>>()).unwrap()
        };
        accuracies.iter().enumerate().map(layer).collect()
    }

    #[test]
    fn equal_layers_are_tied_and_the_maximum_is_brought_down() {
        let (mut naive, mut corrected, mut covered, mut all_kept) = (0.0, 0.0, 0, 0);
        let (runs, bootstrap) = (150, bootstrap());
        for seed in 0..runs {
            let layers = layers(&bootstrap, seed, &[0.7; 13]);
            let found = best(&layers).unwrap();
            naive += layers[found.place].value - 0.7;
            corrected += found.corrected.estimate - 0.7;
            let bounds = (found.corrected.lower.unwrap(), found.corrected.upper.unwrap());
            covered += u32::from(bounds.0 <= 0.7 && 0.7 <= bounds.1);
            assert!(bounds.0 < found.corrected.estimate && found.corrected.estimate < bounds.1);
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
        let bootstrap = bootstrap();
        for seed in 0..20 {
            let found = best(&layers(&bootstrap, seed, &[0.5, 0.6, 0.95, 0.6])).unwrap();
            assert_eq!((found.place, found.tied), (2, vec![false, false, true, false]), "seed {seed}");
        }
        // Nothing to choose between: hardly any optimism.
        let layers = layers(&bootstrap, 3, &[0.5, 0.95]);
        let found = best(&layers).unwrap();
        assert!((found.corrected.estimate - layers[1].value).abs() < 0.005);
    }

    #[test]
    fn a_loss_is_negated_and_copies_are_tied() {
        let one = layers(&bootstrap(), 4, &[0.6, 0.9]);
        let losses = [one[1].negated(), one[0].negated(), one[0].negated()];
        let found = best(&losses).unwrap();
        assert_eq!((found.place, found.tied), (1, vec![false, true, true]));
        assert_eq!(best(&one[..1]).unwrap().tied, [true]);
    }

    #[test]
    fn of_one_layer_the_interval_is_the_percentile_interval_and_of_more_it_is_wider() {
        let layers = layers(&bootstrap(), 9, &[0.7, 0.7, 0.7]);
        let single = layers[0].estimate();
        let same = best(&layers[..1]).unwrap().corrected;
        assert!((same.lower.unwrap() - single.lower.unwrap()).abs() < 2e-3);
        assert!((same.upper.unwrap() - single.upper.unwrap()).abs() < 2e-3);
        let found = best(&layers).unwrap();
        let (one, all) = (layers[found.place].estimate(), found.corrected);
        assert!(all.lower < one.lower && all.upper > one.upper);
    }

    #[test]
    fn without_resamples_nothing_is_claimed() {
        let bootstrap = Bootstrap::new(&[1, 2], Resamples::new(0, 0)).unwrap();
        let layers = [bootstrap.mean(&[0.0, 1.0]).unwrap(), bootstrap.mean(&[1.0, 1.0]).unwrap()];
        let found = best(&layers).unwrap();
        assert_eq!((found.place, found.tied), (1, vec![true, true]));
        assert_eq!((found.corrected.estimate, found.corrected.lower), (1.0, None));
    }

    #[test]
    fn bad_layers_are_refused() {
        assert!(matches!(best(&[]), Err(Error::Empty)));
        let mut layers = layers(&bootstrap(), 0, &[0.5, 0.6]);
        layers[1].value = f64::NAN;
        assert!(matches!(best(&layers), Err(Error::NoValue { place: 1 })));
        layers[1].replicates.pop();
        assert!(matches!(best(&layers), Err(Error::Unpaired { what: "replicates", .. })));
    }
}
