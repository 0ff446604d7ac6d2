//! One cell of a sweep: a hook, a layer and a split, with every estimator and its controls.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use layerscope_probes::{
    Error, Labels, Linear, Link, Probe as _, Standardise, online_code, score::Classified, score::Metric as _,
    score::R2,
};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use tch::{Kind, Tensor};

use super::{
    Estimator, Fitted, Options, ProbeError, Round, Target, Task,
    estimator::Prepared,
    labelling::{Labelling, Labellings},
    permuted::PermutationTest,
    task::pick,
};
use crate::{
    model::Weights,
    run::{check_tensors, write_tensors},
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
    /// Accuracy (or R²) on the items it was fitted to; NaN where it has none.
    pub train: f64,
    /// Whether the states that it was fitted to do not vary: then it knows how often each label occurs, and no more.
    pub constant: bool,
    /// 1 where the control task's label was found, per test item; none where items have no types.
    pub control: Option<Vec<f64>>,
    /// 1 where a probe fitted to shuffled labels is right, per test item.
    pub shuffled: Option<Vec<f64>>,
    /// Bits of the online code per item of the whole task.
    pub bits: Option<Vec<f64>>,
    /// What a permutation test compares (docs/probes.md): of the labels as they are, then of permuted ones.
    pub permuted: Option<Vec<f64>>,
}

/// What is measured beside the probe itself, at the first split of a sweep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Shuffles of the logistic probe's online code; 0 leaves it out.
    pub mdl: usize,
    /// Permutations of the labels; 0 leaves them out.
    pub permutations: usize,
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
    let labels = Labellings::new(task, round).map_err(ProbeError::of(place("labels"), task))?;
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
                train: goodness(&fitted.linear, prepared.x(), &train.target)?,
                control: again.right(labels.control.as_ref())?,
                shuffled: again.right(labels.shuffled.as_ref())?,
                permuted: match &permuted {
                    Some(test) => test.values(estimator, extras.permutations)?,
                    None => None,
                },
                bits: None,
                constant,
                fitted,
            })
        };
        let reading = reading().map_err(ProbeError::of(place(estimator.name()), task))?;
        cell.readings.insert(estimator, reading);
    }
    if let (Some(reading), true) = (cell.readings.get_mut(&Estimator::Logistic), extras.mdl > 0) {
        let l2 = reading.fitted.l2.unwrap_or(1.0);
        reading.bits = code(x, task, l2, options, extras.mdl, key.seed)
            .map_err(ProbeError::of(place("online code"), task))?;
    }
    Ok(cell)
}

/// The same probe with other labels.
struct Again<'a> {
    prepared: &'a Prepared<'a>,
    estimator: Estimator,
    l2: Option<f64>,
    test_x: ArrayView2<'a, f32>,
}

impl Again<'_> {
    /// 1 where a probe fitted to other labels is right, per test item; none where it cannot be fitted to them.
    fn right(&self, labels: Option<&Labelling>) -> Result<Option<Vec<f64>>, Error> {
        let Some(labels) = labels else { return Ok(None) };
        if !labels.fits(self.estimator, self.prepared.paired()) {
            return Ok(None);
        }
        let l2: Vec<f64> = self.l2.into_iter().collect();
        let fitted = self.prepared.fit(self.estimator, &labels.train.labels(), &l2)?.remove(0);
        let scores = fitted.linear.scores(self.test_x)?;
        let found = Classified::new(scores.view(), &vec![0; scores.nrows()])?;
        let right = found.predicted().iter().enumerate().map(|(item, found)| labels.right(*found, item));
        Ok(Some(right.collect()))
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

/// Bits per item of the online code of Voita and Titov (2020).
fn code(
    x: ArrayView2<'_, f32>,
    task: &Task,
    l2: f64,
    options: &Options,
    shuffles: usize,
    seed: u64,
) -> Result<Option<Vec<f64>>, Error> {
    let Target::Classes { y, names } = &task.target else { return Ok(None) };
    if Standardise::of_rows(x)?.is_constant() {
        // Nothing can be learnt from them: every label costs what it costs without them.
        return Ok(Some(vec![(names.len() as f64).log2(); y.len()]));
    }
    let fit = |before: &[usize], block: &[usize]| -> Result<Array2<f64>, Error> {
        let own = pick(y, before);
        let prepared = Prepared::new(x.select(Axis(0), before), options);
        let labels = Labels::Classes { y: &own, n_classes: names.len() };
        let fitted = prepared.fit(Estimator::Logistic, &labels, &[l2])?.remove(0);
        fitted.linear.scores(x.select(Axis(0), block).view())
    };
    Ok(Some(online_code(y, names.len(), &task.groups, shuffles as u64, seed, fit)?.bits))
}

impl Cell {
    /// Writes the cell, whole or not at all.
    ///
    /// # Errors
    /// [`ProbeError::Run`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), ProbeError> {
        let mut tensors = BTreeMap::new();
        for (estimator, r) in &self.readings {
            let mut put =
                |name: &str, tensor: Tensor| tensors.insert(format!("{}/{name}", estimator.name()), tensor);
            let (linear, l2) = (&r.fitted.linear, r.fitted.l2.unwrap_or(f64::NAN));
            put("scores", two(&r.scores));
            put("weights", two(&linear.weights));
            put("bias", Tensor::from_slice(&linear.bias.to_vec()));
            put(
                "facts",
                Tensor::from_slice(&[
                    l2,
                    f64::from(u8::from(r.fitted.converged)),
                    r.train,
                    link(linear.link),
                    f64::from(u8::from(r.constant)),
                ]),
            );
            for (name, values) in [
                ("control", &r.control),
                ("shuffled", &r.shuffled),
                ("bits", &r.bits),
                ("permuted", &r.permuted),
            ] {
                if let Some(values) = values {
                    put(name, Tensor::from_slice(values));
                }
            }
        }
        Ok(write_tensors(path, &tensors)?)
    }

    /// Reads a cell back; none where there is no such file, or one that is not what a sweep wrote.
    ///
    /// # Errors
    /// When the file holds another estimator.
    pub fn read(path: &Path, estimators: &[Estimator]) -> Result<Option<Self>, ProbeError> {
        if check_tensors(path).is_err() {
            return Ok(None); // it is measured again, and the file replaced
        }
        let file = Weights::open_file(path, Kind::Double)?;
        let mut cell = Self::default();
        for estimator in estimators {
            let name = |what: &str| format!("{}/{what}", estimator.name());
            let take = |what: &str| -> Result<(Vec<f64>, usize), ProbeError> {
                let tensor = file.take_any(&name(what))?.to_kind(Kind::Double);
                let columns = tensor.size().last().copied().unwrap_or(1).max(1) as usize;
                let values = Vec::<f64>::try_from(tensor.view([-1]));
                Ok((values.map_err(crate::model::ModelError::from)?, columns))
            };
            let vector = |what: &str| take(what).map(|(values, _)| values);
            let matrix = |what: &str| -> Result<Array2<f64>, ProbeError> {
                let (values, columns) = take(what)?;
                Ok(Array2::from_shape_vec((values.len() / columns, columns), values).unwrap_or_default())
            };
            let some = |what: &str| file.has(&name(what)).then(|| vector(what)).transpose();
            let facts = vector("facts")?;
            let linear = Linear::new(matrix("weights")?, Array1::from(vector("bias")?), link_of(facts[3]));
            let linear = linear.map_err(ProbeError::at(path.display().to_string()))?;
            let l2 = Some(facts[0]).filter(|l2| !l2.is_nan());
            let reading = Reading {
                fitted: Fitted { linear, l2, converged: facts[1] == 1.0 },
                scores: matrix("scores")?,
                train: facts[2],
                constant: facts.get(4) == Some(&1.0),
                control: some("control")?,
                shuffled: some("shuffled")?,
                bits: some("bits")?,
                permuted: some("permuted")?,
            };
            cell.readings.insert(*estimator, reading);
        }
        Ok(Some(cell))
    }
}

fn two(values: &Array2<f64>) -> Tensor {
    let flat: Vec<f64> = values.iter().copied().collect();
    Tensor::from_slice(&flat).view([values.nrows() as i64, values.ncols() as i64])
}

fn link(link: Link) -> f64 {
    match link {
        Link::Identity => 0.0,
        Link::Margin => 1.0,
        Link::Sigmoid => 2.0,
        Link::Softmax => 3.0,
    }
}

fn link_of(number: f64) -> Link {
    [Link::Identity, Link::Margin, Link::Sigmoid, Link::Softmax][(number as usize).min(3)]
}
