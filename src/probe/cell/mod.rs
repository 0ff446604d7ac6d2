//! One cell of a sweep: a hook, a layer and a split, with every estimator and its controls.

mod again;
mod code;
mod file;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use layerscope_probes::{
    Error, Linear, Probe as _,
    score::{Classified, Metric as _, R2},
};
use ndarray::{Array1, Array2, ArrayView2, Axis};

pub use self::code::Code;
use self::{again::Again, code::code};
use super::{
    Estimator, Fitted, Options, ProbeError, Round, Target, Task, estimator::Prepared, labelling::Labellings,
    permuted::PermutationTest,
};

/// Which cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellKey {
    /// The hook's short name.
    pub hook: String,
    /// Its layer.
    pub layer: usize,
    /// Seed of the split.
    pub seed: u64,
    /// Which of its folds.
    pub fold: usize,
}

impl CellKey {
    /// The cell's file in the run directory.
    pub fn path(&self, run: &Path) -> PathBuf {
        let Self { hook, layer, seed, fold } = self;
        run.join("cells").join(format!("{hook}.{layer}.seed{seed}.fold{fold}.safetensors"))
    }
}

/// What one estimator found.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The probe, on raw states.
    pub fitted: Fitted,
    /// Scores of the test items `(n_test, k)`.
    pub scores: Array2<f64>,
    /// On the items that it was fitted to: 1 where it is right `(n_train, 1)`, of numbers what it says of them
    /// `(n_train, k)`.
    pub train: Array2<f64>,
    /// Accuracy (or R²) on the items that the penalty was chosen on: what layers are chosen by.
    pub validation: f64,
    /// Whether the states that it was fitted to do not vary: then it knows how often each label occurs, and no more.
    pub constant: bool,
    /// 1 where the label of each draw of the control task was found `(draws, n_test)`; NaN for a draw that gave all
    /// training items one label. No draw where items have no types.
    pub control: Array2<f64>,
    /// 1 where a probe fitted to each draw of shuffled labels is right `(draws, n_test)`.
    pub shuffled: Array2<f64>,
    /// Bits of the online code per item of the whole task, in each order, of the labels and of shuffled ones.
    pub code: Option<Code>,
    /// What a permutation test compares (docs/probes.md): of the labels as they are, then of permuted ones.
    pub permuted: Option<Vec<f64>>,
}

/// What is measured beside the probe itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Draws of the control task's labels, and of shuffled ones.
    pub draws: usize,
    /// Orders of the logistic probe's online code; 0 leaves it out.
    pub mdl: usize,
    /// Permutations of the labels; 0 leaves them out.
    pub permutations: usize,
}

impl Extras {
    /// What is measured at other splits than the first.
    #[must_use]
    pub fn of_later_splits(self) -> Self {
        Self { mdl: 0, permutations: 0, ..self }
    }
}

/// All estimators of one cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// By estimator.
    pub readings: BTreeMap<Estimator, Reading>,
}

/// Fits and tests every estimator on the states `x` `(n, d)` of all items.
///
/// # Errors
/// [`ProbeError::Probe`] naming the place.
pub fn run_cell(
    (key, x): (&CellKey, ArrayView2<'_, f32>),
    task: &Task,
    round: &Round,
    estimators: &[Estimator],
    options: &Options,
    extras: Extras,
) -> Result<Cell, ProbeError> {
    let place = |what: &str| format!("{what} at {} {}, seed {}", key.hook, key.layer, key.seed);
    let part = |rows: &[usize]| (x.select(Axis(0), rows), task.select(rows));
    let ((train_x, train), test_x) = (part(&round.train), x.select(Axis(0), &round.test));
    let (validation_x, validation) = part(&round.validation);
    let prepared = Prepared::new(train_x, options);
    let constant = prepared.constant().map_err(ProbeError::at(place("states")))?;
    let labels = Labellings::new(task, round, extras.draws).map_err(ProbeError::of(place("labels"), task))?;
    let permuted = (extras.permutations > 0).then(|| PermutationTest::new(x, task, options, key.seed));
    let permuted = permuted.transpose().map_err(ProbeError::of(place("permutations"), task))?;
    let mut cell = Cell::default();
    for &estimator in estimators {
        let reading = || -> Result<Reading, Error> {
            let chosen = (validation_x.view(), &validation.labels());
            let fitted = prepared.choose(estimator, &train.labels(), chosen)?;
            let again = Again { prepared: &prepared, estimator, l2: fitted.l2, test_x: test_x.view() };
            Ok(Reading {
                scores: fitted.linear.scores(test_x.view())?,
                train: outcomes(fitted.linear.scores(prepared.x())?, &train.target)?,
                validation: goodness(&fitted.linear, validation_x.view(), &validation.target)?,
                control: again.right(&labels.control)?,
                shuffled: again.right(&labels.shuffled)?,
                permuted: match &permuted {
                    Some(test) => test.values(estimator, extras.permutations)?,
                    None => None,
                },
                code: None,
                constant,
                fitted,
            })
        };
        let reading = reading().map_err(ProbeError::of(place(estimator.name()), task))?;
        cell.readings.insert(estimator, reading);
    }
    if let (Some(reading), true) = (cell.readings.get_mut(&Estimator::Logistic), extras.mdl > 0) {
        reading.code = code(x, task, options, extras.mdl, key.seed)
            .map_err(ProbeError::of(place("online code"), task))?;
    }
    Ok(cell)
}

/// What is kept of scores of some items ([`Reading::train`]): which of them are right, of numbers the scores.
pub(super) fn outcomes(scores: Array2<f64>, target: &Target) -> Result<Array2<f64>, Error> {
    match target {
        Target::Numbers(_) => Ok(scores),
        Target::Classes { .. } if scores.nrows() == 0 => Ok(Array2::zeros((0, 1))),
        Target::Classes { y, .. } => {
            let right = Classified::new(scores.view(), y)?.correct();
            Ok(Array1::from(right).insert_axis(Axis(1)))
        }
    }
}

/// Accuracy, or R² of numbers.
fn goodness(linear: &Linear, x: ArrayView2<'_, f32>, target: &Target) -> Result<f64, Error> {
    let scores = linear.scores(x)?;
    match target {
        Target::Classes { y, .. } => {
            let right = Classified::new(scores.view(), y)?.correct();
            Ok(right.iter().sum::<f64>() / right.len() as f64)
        }
        Target::Numbers(y) => Ok(R2::new(scores.view(), y.view())?.point()),
    }
}
