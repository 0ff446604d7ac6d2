//! The best of several layers: which others may be the best too, and how good the best one is when it was chosen
//! on the very rows it is measured on.
//!
//! - **Tied.** A layer stays when the lead of the layers above it is no more than chance gives a best layer: the
//!   largest studentised lead `max_j (θ̂_j - θ̂_i) / se_ij` is compared with its 95 % quantile over centred resamples.
//!   The set holds the truly best layer in 95 % of samples (subset selection, Gupta 1965; bootstrapped as in Mogstad,
//!   Romano, Shaikh & Wilhelm 2024, "Inference for ranks", Rev. Econ. Stud. 91).
//! - **Corrected.** The highest of several estimates is too high. The choice is made again in each resample, and the
//!   mean excess of the chosen layer's resampled value over its value is the optimism that is taken off (Efron & Gong
//!   1983, "A leisurely look at the bootstrap").
//! - **Interval.** Percentile intervals of *all* layers at once, widened until 95 % of the resamples are within all of
//!   them (the quantile-based sup-t band of Montiel Olea & Plagborg-Møller 2019, "Simultaneous confidence bands", J.
//!   Appl. Econometrics 34). It holds whatever the choice, hence for the chosen layer; of one layer it is the
//!   percentile interval.
//!
//! The correction is partial: where all of 13 layers are truly equal, about a third of the excess is left.
//!
//! A layer chosen on a validation part and measured on the test part ([`chosen`]) needs none of this; it is the number
//! to quote.

mod nested;
#[cfg(test)]
mod tests;

use crate::interval::{Interval, NoInterval, quantile};
use crate::{Draws, Error, Estimate};

pub use nested::chosen;

/// The best of several numbers measured on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The place of the highest value, the first of equal ones.
    pub place: usize,
    /// Which cannot be told from the best.
    pub tied: Vec<bool>,
    /// The best one's value less the optimism of having chosen it, with an interval that allows for the choice; no
    /// interval where single layers have none.
    pub corrected: Estimate,
}

/// The highest of `layers`, which must come from one [`crate::Weightings`]; for a loss, give [`Draws::negated`].
///
/// Resamples in which some layer has no value are left out. Without resamples nothing is told apart (all are tied) and
/// nothing is corrected.
///
/// # Errors
/// [`Error::Empty`] without layers, [`Error::Unpaired`], and [`Error::NoValue`] for a layer whose value is NaN or
/// infinite.
pub fn best(layers: &[Draws]) -> Result<Best, Error> {
    let first = layers.first().ok_or(Error::Empty)?;
    layers.iter().try_for_each(|layer| first.paired_with(layer))?;
    if let Some(place) = layers.iter().position(|layer| !layer.value.is_finite()) {
        return Err(Error::NoValue { place });
    }
    let errors = Errors::new(layers);
    let place = highest(&errors.values);
    let tied = (0..layers.len()).map(|layer| errors.may_be_best(layer)).collect();
    // A layer that all clusters agree on has no error to compare, which is no reason to keep silent about the others.
    let unknown = |layer: &Draws| layer.estimate().interval.err().filter(|why| *why != NoInterval::Constant);
    let interval = match layers.iter().find_map(unknown) {
        Some(why) => Err(why),
        None if errors.errors.is_empty() => Err(NoInterval::NoReplicates),
        None => Ok(errors.bounds(place)),
    };
    let corrected =
        Estimate { estimate: errors.values[place] - errors.optimism(), interval, ..first.estimate() };
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
        let errors = Draws::errors(layers);
        let errors = errors.into_iter().filter(|errors| errors.iter().all(|e| e.is_finite())).collect();
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
    fn bounds(&self, layer: usize) -> Interval {
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
        Interval {
            lower: self.values[layer] + sorted[depth - 1],
            upper: self.values[layer] + sorted[n - depth],
        }
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
