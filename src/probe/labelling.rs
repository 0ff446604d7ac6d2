//! The labels that every split is fitted to: the true ones, those of the control task, shuffled ones.

use layerscope_probes::{ControlTask, Error, Labels, compact, shuffled_labels};

use super::{Estimator, Round, Target, Task, task::pick};

/// Labels of a training part.
pub(super) struct Labelling {
    /// Of the training items, in the split's order.
    pub(super) train: Target,
    /// By class of `train`, the class it is among `truth`.
    classes: Vec<u32>,
    /// What is right on the test items, in the split's order.
    truth: Vec<u32>,
}

impl Labelling {
    /// Labels `y`, of which classes that do not occur are left out.
    pub(super) fn of(y: &[u32], truth: Vec<u32>) -> Self {
        let (y, classes) = compact(y);
        let names = classes.iter().map(ToString::to_string).collect();
        Self { train: Target::Classes { y, names }, classes, truth }
    }

    /// Whether a probe can be fitted to them: they have classes enough.
    pub(super) fn fits(&self, estimator: Estimator, paired: bool) -> bool {
        let k = self.train.n_classes();
        k.is_none_or(|k| k > 1) && estimator.suits(k, paired)
    }

    /// 1 where the class found for a test item is right.
    pub(super) fn right(&self, found: u32, test_item: usize) -> f64 {
        f64::from(u8::from(self.classes[found as usize] == self.truth[test_item]))
    }
}

/// The true labels of a split, then what is fitted beside them.
pub(super) struct Labellings {
    pub(super) truth: Labelling,
    /// Draws of the control task of Hewitt and Liang (2019): every word type has a random label. None where items have
    /// no types.
    pub(super) control: Vec<Labelling>,
    /// Draws of the training part's labels shuffled over its groups. None for numbers.
    pub(super) shuffled: Vec<Labelling>,
}

impl Labellings {
    /// What is fitted beside the true ones: the control task's, then shuffled ones.
    pub(super) fn others(&self) -> impl Iterator<Item = &Labelling> {
        self.control.iter().chain(&self.shuffled)
    }

    /// Of the split `round` of `task`, with so many draws of the others.
    pub(super) fn new(task: &Task, round: &Round, draws: usize) -> Result<Self, Error> {
        let (train, test) = (task.select(&round.train), task.select(&round.test));
        let (Target::Classes { y, names }, Target::Classes { y: truth, .. }) = (&train.target, &test.target)
        else {
            let truth = Labelling { train: train.target, classes: Vec::new(), truth: Vec::new() };
            return Ok(Self { truth, control: Vec::new(), shuffled: Vec::new() });
        };
        let draws = 0..draws as u64;
        let control = match (&train.types, &test.types) {
            (Some(types), Some(test_types)) => {
                let one = |draw| -> Result<Labelling, Error> {
                    let control = ControlTask::new(y, names.len(), round.seed, draw)?;
                    Ok(Labelling::of(&control.labels(types), control.labels(test_types)))
                };
                draws.clone().map(one).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        let shuffled = |draw| -> Result<Labelling, Error> {
            Ok(Labelling::of(&shuffled_labels(y, &train.groups, round.seed, draw)?, truth.clone()))
        };
        let shuffled = draws.map(shuffled).collect::<Result<_, _>>()?;
        let classes = (0..names.len() as u32).collect();
        let truth = Labelling { train: train.target.clone(), classes, truth: truth.clone() };
        Ok(Self { truth, control, shuffled })
    }
}

impl Target {
    /// As estimators take them.
    pub(super) fn labels(&self) -> Labels<'_> {
        match self {
            Self::Classes { y, names } => Labels::Classes { y, n_classes: names.len() },
            Self::Numbers(y) => Labels::Numbers(y.view()),
        }
    }

    /// The labels of the items `rows`.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes { y, names } => Self::Classes { y: pick(y, rows), names: names.clone() },
            Self::Numbers(y) => Self::Numbers(y.select(ndarray::Axis(0), rows)),
        }
    }

    /// Number of classes; none for numbers.
    pub(super) fn n_classes(&self) -> Option<usize> {
        match self {
            Self::Classes { names, .. } => Some(names.len()),
            Self::Numbers(_) => None,
        }
    }
}
