//! The layer chosen on other rows than those it is quoted on.

/// The place of the highest of several layers' values on validation rows, the first of equal ones; a layer without a
/// value (NaN) is not chosen. Its value on the test rows is not too high for having been chosen, and its interval there
/// is that of any one number (nested choice: Cawley & Talbot 2010, "On over-fitting in model selection and subsequent
/// selection bias in performance evaluation", JMLR 11).
pub fn chosen(validation: &[f64]) -> Option<usize> {
    let known = validation.iter().enumerate().filter(|(_, value)| !value.is_nan());
    let higher = |best: Option<(usize, f64)>, (place, &value): (usize, &f64)| match best {
        Some((_, highest)) if highest >= value => best,
        _ => Some((place, value)),
    };
    known.fold(None, higher).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{stream, uniform};
    use crate::{Draws, Intervals, Weightings, best};

    #[test]
    fn the_first_of_the_highest_is_chosen_and_nothing_of_nothing() {
        assert_eq!(chosen(&[0.5, 0.7, 0.7, f64::NAN]), Some(1));
        assert_eq!(chosen(&[f64::NAN, -3.0, -4.0]), Some(1));
        assert_eq!(chosen(&[f64::NEG_INFINITY]), Some(0));
        assert_eq!((chosen(&[]), chosen(&[f64::NAN])), (None, None));
    }

    /// Thirteen layers of true accuracies from .70 to .76, 60 validation rows and 100 test rows. What the layer chosen
    /// on the former has on the latter is right on average about *that* layer, and its interval holds as often as
    /// promised; the highest value on the test rows is too high.
    #[test]
    fn the_chosen_layers_test_value_is_not_too_high() {
        let groups: Vec<u64> = (0..100).collect();
        let truth = |layer: usize| 0.70 + 0.005 * layer as f64;
        let runs = 400;
        let (mut nested, mut naive, mut covered) = (0.0, 0.0, 0);
        for seed in 0..runs {
            let weightings = Weightings::new(&groups, Intervals::default()).unwrap();
            let mut random = stream(seed, b"layerscope/test of chose", 0);
            let mut rows = |layer: usize, n: usize| -> Vec<f64> {
                (0..n).map(|_| f64::from(u8::from(uniform(&mut random) < truth(layer)))).collect()
            };
            let validation: Vec<f64> =
                (0..13).map(|layer| rows(layer, 60).iter().sum::<f64>() / 60.0).collect();
            let test: Vec<Draws> = (0..13).map(|layer| weightings.mean(&rows(layer, 100)).unwrap()).collect();
            let place = chosen(&validation).unwrap();
            let found = test[place].estimate();
            nested += (found.estimate - truth(place)) / runs as f64;
            covered +=
                u32::from(found.lower().unwrap() <= truth(place) && truth(place) <= found.upper().unwrap());
            let highest = best(&test).unwrap().place;
            naive += (test[highest].value - truth(highest)) / runs as f64;
        }
        // One value's standard error is .045, that of the mean of 400 .0022.
        assert!(nested.abs() < 0.008 && naive > 0.04, "{nested} {naive}");
        // .95 of 400 is 380, standard deviation 4.4.
        assert!((365..=393).contains(&covered), "{covered}");
    }
}
