//! Permutation tests of probes: how often a probe of permuted labels does as well.
//!
//! What is compared is one function of states and labels, the same for the labels as they are and for permuted ones, so
//! that under no signal the first is one of many alike. The split must not know the labels then: the sweep's own, which
//! spreads the classes over its parts by the labels as they are, would favour permuted labels. It is drawn once, from
//! groups alone, and everything that does not read labels (the spectrum, directions without labels) is made once. The
//! penalty is chosen anew for every permutation, as it was for the labels as they are.

#[cfg(test)]
mod tests;

use layerscope_probes::{
    Error, Exchange, Labels, Permutations, Probe as _, Shares, Split, compact,
    score::{Classified, Metric as _, R2},
};
use ndarray::{Array2, ArrayView2, Axis};

use super::{Estimator, Fitted, Options, ProbeError, Target, Task, estimator::Prepared, task::pick};

/// How the labels of a task are permuted; and in how many ways groups can be given their labels, where that is fewer
/// than `permutations`: no p below one in as many can be found then.
///
/// # Errors
/// When there is no item.
pub fn exchange(task: &Task, permutations: usize) -> Result<(Exchange, Option<f64>), ProbeError> {
    let shuffles = Permutations::new(&task.labels(), &task.groups, 0);
    let shuffles = shuffles.map_err(ProbeError::of("permutations", task))?;
    Ok((shuffles.exchange(), shuffles.ways().filter(|ways| *ways < permutations as f64)))
}

/// What the training items count beside the test items: only what is equal there is told apart.
const TIE: f64 = 1e-6;

/// The states of one hook and layer, split for a permutation test.
pub struct PermutationTest<'a> {
    task: &'a Task,
    shuffles: Permutations,
    split: Split,
    prepared: Prepared<'a>,
    validation_x: Array2<f32>,
    test_x: Array2<f32>,
}

impl<'a> PermutationTest<'a> {
    /// Of the states `x` `(n, d)` of all items. Split and permutations are those of the seed, the same at every layer.
    ///
    /// # Errors
    /// When there are fewer groups than parts of a split.
    pub fn new(
        x: ArrayView2<'_, f32>,
        task: &'a Task,
        options: &'a Options,
        seed: u64,
    ) -> Result<Self, Error> {
        let shuffles = Permutations::new(&task.labels(), &task.groups, seed)?;
        // Numbers are not spread over the parts: what is split by them is split by groups alone.
        let blind = Array2::zeros((task.len(), 1));
        let split = Split::new(&task.groups, &Labels::Numbers(blind.view()), Shares::default(), seed)?;
        let part = |rows: &[usize]| x.select(Axis(0), rows);
        let (validation_x, test_x) = (part(&split.validation.rows), part(&split.test.rows));
        let prepared = Prepared::new(part(&split.train.rows), options);
        Ok(Self { task, shuffles, split, prepared, validation_x, test_x })
    }

    /// The statistic of the labels as they are, then of `permutations` permuted ones; none where the labels as they are
    /// have none (numbers that do not vary in the test part).
    ///
    /// # Errors
    /// When a probe cannot be fitted.
    pub fn values(&self, estimator: Estimator, permutations: usize) -> Result<Option<Vec<f64>>, Error> {
        let observed = self.statistic(estimator, &self.task.target)?;
        if observed.is_nan() {
            return Ok(None);
        }
        let one = |round| self.statistic(estimator, &self.task.target.select(&self.shuffles.rows(round)));
        let null = (0..permutations as u64).map(one).collect::<Result<Vec<_>, _>>()?;
        // Where a permutation has no value, it is counted as one that does as well.
        let null = null.into_iter().map(|value| if value.is_nan() { observed } else { value });
        Ok(Some(std::iter::once(observed).chain(null).collect()))
    }

    /// How far a probe of these labels is ahead of the commonest class in accuracy, ties broken by how sure it is of
    /// what is right (less than one item's worth, so that only equal accuracies are told apart); R² of numbers.
    ///
    /// Ahead of the commonest class, because labels that move between groups of other sizes change how often each
    /// occurs. What is still tied is broken by the training items: directions that are found without labels read no
    /// more of those than a sign, so that with three groups in the test part there are a few values alone, and too many
    /// permutations would do as well.
    fn statistic(&self, estimator: Estimator, labels: &Target) -> Result<f64, Error> {
        let part = |rows: &[usize]| labels.select(rows);
        let (train, validation) = (part(&self.split.train.rows), part(&self.split.validation.rows));
        let test = part(&self.split.test.rows);
        let (Target::Classes { y, .. }, Target::Classes { y: truth, .. }) = (&train, &test) else {
            let chosen = (self.validation_x.view(), &validation.labels());
            let fitted = self.prepared.choose(estimator, &train.labels(), chosen)?;
            let scores = fitted.linear.scores(self.test_x.view())?;
            let Target::Numbers(y) = &test else { return Ok(f64::NAN) };
            return Ok(R2::new(scores.view(), y.view())?.point());
        };
        let (own, classes) = compact(y);
        let commonest = commonest(&own, classes.len());
        let baseline = truth.iter().filter(|class| **class == classes[commonest]).count() as f64;
        if !(classes.len() > 1 && estimator.suits(Some(classes.len()), self.prepared.paired())) {
            // One class, or other than the estimator takes: nothing is ahead of the commonest.
            return Ok(0.0);
        }
        let linear = self.fitted(estimator, &own, &classes, &validation)?.linear;
        let scores = linear.scores(self.test_x.view())?;
        let right = classes_right(&scores, &classes, truth)?;
        let sure = sureness(&scores, &classes, truth);
        let trained = sureness(&linear.scores(self.prepared.x())?, &classes, y);
        Ok((right + sure + TIE * trained - baseline) / truth.len() as f64)
    }

    /// A probe of classes `own`, numbered as they occur in training.
    fn fitted(
        &self,
        estimator: Estimator,
        own: &[u32],
        classes: &[u32],
        validation: &Target,
    ) -> Result<Fitted, Error> {
        let train = Labels::Classes { y: own, n_classes: classes.len() };
        // A class that is not in training cannot be chosen by: its items are left out. Without any, the training part
        // has to do.
        let Target::Classes { y, .. } = validation else { return Err(Error::Empty) };
        let numbered = |class: &u32| classes.iter().position(|other| other == class);
        let rows: Vec<usize> = (0..y.len()).filter(|row| numbered(&y[*row]).is_some()).collect();
        let chosen: Vec<u32> =
            pick(y, &rows).iter().filter_map(|class| numbered(class).map(|place| place as u32)).collect();
        if rows.is_empty() {
            let by = (self.prepared.x(), &train);
            return self.prepared.choose(estimator, &train, by);
        }
        let x = self.validation_x.select(Axis(0), &rows);
        let by = (x.view(), &Labels::Classes { y: &chosen, n_classes: classes.len() });
        self.prepared.choose(estimator, &train, by)
    }
}

/// The class that most rows have; of equals the first.
fn commonest(y: &[u32], n_classes: usize) -> usize {
    let mut counts = vec![0_usize; n_classes];
    for class in y {
        counts[*class as usize] += 1;
    }
    (0..n_classes).rev().max_by_key(|class| counts[*class]).unwrap_or(0)
}

/// How many items have the class that scores highest.
fn classes_right(scores: &Array2<f64>, classes: &[u32], truth: &[u32]) -> Result<f64, Error> {
    let found = Classified::new(scores.view(), &vec![0; truth.len()])?;
    let right =
        found.predicted().iter().zip(truth).filter(|(found, truth)| classes[**found as usize] == **truth);
    Ok(right.count() as f64)
}

/// Between 0 and 1: the mean over items of how far the right class's score is ahead of the best other one's, squashed.
fn sureness(scores: &Array2<f64>, classes: &[u32], truth: &[u32]) -> f64 {
    let margin = |(item, class): (usize, &u32)| {
        let Some(place) = classes.iter().position(|other| other == class) else { return 0.0 };
        let row = scores.row(item);
        let others = row.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, score)| *score);
        row[place] - others.fold(f64::NEG_INFINITY, f64::max)
    };
    let squashed = truth.iter().enumerate().map(margin).map(|m| 0.5 + m / (2.0 * (1.0 + m.abs())));
    squashed.sum::<f64>() / (truth.len() as f64 + 1.0)
}
