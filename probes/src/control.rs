//! Controls: labels a probe can only learn by heart.
//!
//! A probe that does as well on a control task shows its own capacity, not what the layer holds. Selectivity is the
//! accuracy on the task less that on the control (Hewitt & Liang 2019, "Designing and interpreting probes with control
//! tasks").

use crate::draw::{Purpose, draw};
use crate::permutation::Permutations;
use crate::{Draws, Error, Labels};

const PURPOSE: &Purpose = b"layerscope/control-task1";

/// A random label for every word type, drawn from the labels' own frequencies and from (seed, draw, type). One draw is
/// easier to learn than another: give several, and put their accuracies together with [`crate::over_draws`].
///
/// For sentence tasks give the group as the type. No test group is then seen in training, so no probe beats the
/// majority on the control, and selectivity says how far the task is above chance: it shows no capacity.
#[derive(Debug, Clone)]
pub struct ControlTask {
    /// Rows of each class and of those before it, `(n_classes,)`.
    cumulative: Vec<u64>,
    seed: u64,
    draw: u64,
}

impl ControlTask {
    /// Draw number `draw` with the frequencies of `y`, the training part's labels.
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::NoSuchClass`].
    pub fn new(y: &[u32], n_classes: usize, seed: u64, draw: u64) -> Result<Self, Error> {
        let mut cumulative = vec![0; n_classes];
        for (row, &class) in y.iter().enumerate() {
            *cumulative.get_mut(class as usize).ok_or(Error::NoSuchClass { row, class, n_classes })? += 1;
        }
        if y.is_empty() {
            return Err(Error::Empty);
        }
        for class in 1..n_classes {
            cumulative[class] += cumulative[class - 1];
        }
        Ok(Self { cumulative, seed, draw })
    }

    /// The type's label.
    pub fn label(&self, word_type: u64) -> u32 {
        let rows = self.cumulative.last().copied().unwrap_or(0);
        let uniform = draw(self.seed, PURPOSE, word_type, self.draw);
        let drawn = (u128::from(uniform) * u128::from(rows)) >> 64; // below `rows`
        self.cumulative.partition_point(|&upto| u128::from(upto) <= drawn) as u32
    }

    /// The labels of rows of these types. Training rows may lack a class: see [`compact`].
    pub fn labels(&self, types: &[u64]) -> Vec<u32> {
        types.iter().map(|&word_type| self.label(word_type)).collect()
    }
}

/// Labels numbered anew without the classes that have no row, as an estimator needs them, and the class of each new
/// number: a predicted number c means class `classes[c]`.
pub fn compact(y: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut classes = y.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let number = |class: &u32| classes.partition_point(|other| other < class) as u32;
    (y.iter().map(number).collect(), classes)
}

/// Accuracy on the task less accuracy on the control, paired: both measured on the same test rows with one
/// [`crate::Weightings`].
///
/// # Errors
/// [`Error::Unpaired`]
pub fn selectivity(task: &Draws, control: &Draws) -> Result<Draws, Error> {
    task.minus(control)
}

/// The training part's labels shuffled, draw number `draw`: what is found with them is chance. By whole groups where
/// each has one label.
///
/// # Errors
/// [`Error::Length`] and [`Error::Empty`].
pub fn shuffled_labels(y: &[u32], groups: &[u64], seed: u64, draw: u64) -> Result<Vec<u32>, Error> {
    let labels = Labels::Classes { y, n_classes: 0 }; // what is permuted need not be below anything
    Ok(Permutations::new(&labels, groups, seed)?.labels(y, draw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::correct;
    use crate::{Intervals, NoInterval, TypeMajority, Weightings};

    #[test]
    fn a_type_has_one_label_and_types_follow_the_frequencies() {
        let y: Vec<u32> = (0..1000).map(|row| [0, 0, 0, 0, 0, 0, 2, 2, 2, 3][row % 10]).collect();
        let task = ControlTask::new(&y, 4, 5, 0).unwrap();
        let types: Vec<u64> = (0..20_000).collect();
        let mut counts = [0_u32; 4];
        task.labels(&types).iter().for_each(|&label| counts[label as usize] += 1);
        // 12000, 0, 6000, 2000 expected; standard deviations 69, 0, 65, 42.
        assert_eq!(counts[1], 0);
        assert!(counts[0].abs_diff(12_000) < 350 && counts[3].abs_diff(2000) < 210, "{counts:?}");
        assert_eq!(task.labels(&[9, 4, 9]), [task.label(9), task.label(4), task.label(9)]);
        for (seed, draw) in [(6, 0), (5, 1)] {
            let other = ControlTask::new(&y, 4, seed, draw).unwrap();
            // The share of types with the same label in two draws: 0.36 + 0.09 + 0.01.
            let same = types.iter().filter(|t| task.label(**t) == other.label(**t)).count();
            assert!(same.abs_diff(9200) < 350, "{same}");
        }
    }

    #[test]
    fn what_is_only_the_type_has_no_selectivity() {
        // A probe that knows the types by heart does as well on the control as on a task that is a function of the
        // type.
        let types: Vec<u64> = (0..600).map(|row| row % 40).collect();
        let y: Vec<u32> = types.iter().map(|t| u32::from(t % 3 == 0)).collect();
        let control = ControlTask::new(&y[..300], 2, 1, 0).unwrap().labels(&types);
        let groups: Vec<u64> = (300..600).map(|row| row / 10).collect();
        let weightings = Weightings::new(&groups, Intervals::default()).unwrap();
        let accuracy = |y: &[u32]| {
            let predicted = TypeMajority::fit(&types[..300], &y[..300], 2).unwrap().predict(&types[300..]);
            weightings.mean(&correct(&predicted, &y[300..]).unwrap()).unwrap()
        };
        let found = selectivity(&accuracy(&y), &accuracy(&control)).unwrap().estimate();
        assert_eq!((found.estimate, found.interval), (0.0, Err(NoInterval::Constant)));
    }

    #[test]
    fn classes_without_a_row_are_left_out() {
        assert_eq!(compact(&[7, 2, 7, 9]), (vec![1, 0, 1, 2], vec![2, 7, 9]));
        assert_eq!(compact(&[]), (vec![], vec![]));
    }

    #[test]
    fn shuffled_labels_are_the_same_labels() {
        let y: Vec<u32> = (0..100).map(|row| row % 3).collect();
        let rows: Vec<u64> = (0..100).collect();
        let mut shuffled = shuffled_labels(&y, &rows, 4, 0).unwrap();
        assert_ne!(shuffled, shuffled_labels(&y, &rows, 4, 1).unwrap());
        assert!(shuffled.iter().zip(&y).filter(|(a, b)| a == b).count() < 55); // a third expected
        let mut sorted = y.clone();
        shuffled.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(shuffled, sorted);
    }

    #[test]
    fn bad_labels_are_refused() {
        assert!(matches!(ControlTask::new(&[], 2, 0, 0), Err(Error::Empty)));
        assert!(matches!(
            ControlTask::new(&[0, 2], 2, 0, 0),
            Err(Error::NoSuchClass { row: 1, class: 2, n_classes: 2 })
        ));
        assert!(matches!(ControlTask::new(&[0], 0, 0, 0), Err(Error::NoSuchClass { .. })));
    }
}
