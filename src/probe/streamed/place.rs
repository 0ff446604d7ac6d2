//! One split at one hook and layer of a streamed sweep: sums, probes fitted from them, their scores.

use layerscope_probes::{ClassSums, Error, Moments, Probe as _, Standardise, score::Classified};
use ndarray::{Array2, ArrayView2, Axis};

use super::{
    super::{
        Cell, Estimator, Fitted, Options, Reading, Target, cell::outcomes, estimator::of_moments,
        labelling::Labellings,
    },
    Batch, test, train, validation,
};

/// One split at one point.
pub(super) struct Place {
    /// Of the training part with the true labels; none when everything is fitted.
    sums: Option<Moments>,
    /// With the control task's labels and with shuffled ones.
    others: Vec<ClassSums>,
    /// Whether the states of the training part do not vary.
    constant: bool,
    work: Vec<Work>,
}

/// One estimator there.
struct Work {
    estimator: Estimator,
    /// One for each penalty, then the chosen one alone.
    fitted: Vec<Fitted>,
    /// How each does on the validation part, then the chosen one alone; see [`goodness`].
    validation: Vec<f64>,
    /// What the chosen one says of the training part; see [`outcomes`].
    train: Array2<f64>,
    /// The same fitted to the control task's labels and to shuffled ones.
    others: Vec<Option<Fitted>>,
    scores: Array2<f64>,
    /// 1 where the others are right `(others, n_test)`; NaN where they cannot be fitted.
    right: Array2<f64>,
}

impl Place {
    /// Nothing summed yet, of states of width `d`.
    pub(super) fn new(labels: &Labellings, d: usize) -> Self {
        let sums = match &labels.truth.train {
            Target::Classes { names, .. } => Moments::of_classes(d, names.len()),
            Target::Numbers(y) => Moments::of_numbers(d, y.ncols()),
        };
        let others = labels.others().map(|labels| ClassSums::new(d, labels.train.n_classes().unwrap_or(0)));
        Self { sums: Some(sums), others: others.collect(), constant: false, work: Vec::new() }
    }

    pub(super) fn sum(&mut self, labels: &Labellings, batch: &Batch<'_>) -> Result<(), Error> {
        let (x, places) = batch.of(train);
        if let Some(sums) = &mut self.sums {
            sums.add(x.view(), Some(&labels.truth.train.select(&places).labels()))?;
        }
        for (sums, labels) in self.others.iter_mut().zip(labels.others()) {
            sums.add(x.view(), labels.train.select(&places).labels().classes()?.0)?;
        }
        Ok(())
    }

    /// With the true labels, for every penalty from the largest down.
    pub(super) fn fit(&mut self, estimators: &[Estimator], options: &Options) -> Result<(), Error> {
        let Some(sums) = &self.sums else { return Err(Error::Empty) };
        self.constant = Standardise::of_moments(sums)?.is_constant();
        let mut l2 = options.l2.clone();
        l2.sort_by(|a, b| b.total_cmp(a));
        for &estimator in estimators {
            let fitted = of_moments(estimator, sums, options, &l2)?;
            self.work.push(Work {
                estimator,
                validation: vec![0.0; fitted.len()],
                fitted,
                train: Array2::zeros((0, 0)),
                others: Vec::new(),
                scores: Array2::zeros((0, 0)),
                right: Array2::zeros((0, 0)),
            });
        }
        Ok(())
    }

    pub(super) fn validate(
        &mut self,
        target: &Target,
        items: &[usize],
        batch: &Batch<'_>,
    ) -> Result<(), Error> {
        let (x, places) = batch.of(validation);
        let items: Vec<usize> = places.iter().map(|place| items[*place]).collect();
        let target = target.select(&items);
        for work in &mut self.work {
            for (sum, fitted) in work.validation.iter_mut().zip(&work.fitted) {
                *sum += goodness(&fitted.linear.scores(x.view())?, &target)?;
            }
        }
        Ok(())
    }

    /// Keeps the best penalty, of equals the largest, and fits with it to the other labels.
    pub(super) fn choose(
        &mut self,
        labels: &Labellings,
        options: &Options,
        n_test: usize,
    ) -> Result<(), Error> {
        let Some(sums) = self.sums.take() else { return Err(Error::Empty) };
        for work in &mut self.work {
            let best = (1..work.validation.len())
                .fold(0, |best, i| if work.validation[i] > work.validation[best] { i } else { best });
            let chosen = work.fitted.swap_remove(best);
            work.validation = vec![work.validation[best]];
            let l2: Vec<f64> = chosen.l2.into_iter().collect();
            for (labels, other) in labels.others().zip(&self.others) {
                let fitted = if labels.fits(work.estimator, false) {
                    let sums = sums.relabelled(other)?;
                    Some(of_moments(work.estimator, &sums, options, &l2)?.remove(0))
                } else {
                    None
                };
                work.others.push(fitted);
            }
            let k = labels.truth.train.n_classes().unwrap_or(1);
            work.fitted = vec![chosen];
            work.scores = Array2::zeros((n_test, k));
            let (n_train, columns) = match &labels.truth.train {
                Target::Classes { y, .. } => (y.len(), 1),
                Target::Numbers(y) => y.dim(),
            };
            work.train = Array2::zeros((n_train, columns));
            work.right = Array2::from_elem((work.others.len(), n_test), f64::NAN);
        }
        Ok(())
    }

    pub(super) fn test(&mut self, labels: &Labellings, batch: &Batch<'_>) -> Result<(), Error> {
        let ((train_x, trained), (x, places)) = (batch.of(train), batch.of(test));
        let target = labels.truth.train.select(&trained);
        for work in &mut self.work {
            let probe = &work.fitted[0].linear;
            let outcomes = outcomes(probe.scores(train_x.view())?, &target)?;
            for (row, place) in outcomes.outer_iter().zip(&trained) {
                work.train.row_mut(*place).assign(&row);
            }
            for (row, place) in probe.scores(x.view())?.outer_iter().zip(&places) {
                work.scores.row_mut(*place).assign(&row);
            }
            let others = work.others.iter().zip(work.right.outer_iter_mut()).zip(labels.others());
            for ((probe, mut right), labels) in others.filter(|_| !places.is_empty()) {
                let Some(probe) = probe else { continue };
                let scores = probe.linear.scores(x.view())?;
                let found = Classified::new(scores.view(), &vec![0; scores.nrows()])?;
                for (found, place) in found.predicted().iter().zip(&places) {
                    right[*place] = labels.right(*found, *place);
                }
            }
        }
        Ok(())
    }

    pub(super) fn cell(self, labels: &Labellings, validation: &Target) -> Cell {
        let reading = |work: Work| {
            let (controls, n_test) = (labels.control.len(), work.scores.nrows());
            let (control, shuffled) = work.right.view().split_at(Axis(0), controls);
            let owned = |right: ArrayView2<'_, f64>| {
                if right.is_empty() { Array2::zeros((0, n_test)) } else { right.to_owned() }
            };
            let (control, shuffled) = (owned(control), owned(shuffled));
            let reading = Reading {
                fitted: work.fitted.into_iter().next()?,
                scores: work.scores,
                train: work.train,
                validation: share(work.validation[0], validation),
                constant: self.constant,
                control,
                shuffled,
                code: None,
                permuted: None,
            };
            Some((work.estimator, reading))
        };
        Cell { readings: self.work.into_iter().filter_map(reading).collect() }
    }
}

/// What adds up over batches: the number that are right, or minus the squared error of numbers.
fn goodness(scores: &Array2<f64>, target: &Target) -> Result<f64, Error> {
    match target {
        _ if scores.nrows() == 0 => Ok(0.0),
        Target::Classes { y, .. } => Ok(Classified::new(scores.view(), y)?.correct().iter().sum()),
        Target::Numbers(y) => Ok(-(scores - y).mapv(|error| error * error).sum()),
    }
}

/// The sum of [`goodness`] over all items as accuracy or R²; NaN of numbers that do not vary.
fn share(goodness: f64, target: &Target) -> f64 {
    match target {
        Target::Classes { y, .. } => goodness / y.len() as f64,
        Target::Numbers(y) => {
            let mean = y.mean().unwrap_or(0.0);
            let spread = y.mapv(|y| (y - mean) * (y - mean)).sum();
            // What is left of a constant is rounding.
            if spread > 1e-12 * y.len() as f64 * mean * mean { 1.0 + goodness / spread } else { f64::NAN }
        }
    }
}
