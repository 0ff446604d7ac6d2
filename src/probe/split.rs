//! Which items a probe is fitted, chosen and tested on: several seeded splits, or folds.

use layerscope_probes::{Shares, Split, folds};

use super::{ProbeError, task::Task, task::pick};

/// How often the items are split, and how.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Of the first split; the others count up from it.
    pub seed: u64,
    /// Number of splits.
    pub seeds: usize,
    /// Folds instead of one test part per split: every item is tested once per seed.
    pub kfold: Option<usize>,
}

impl Protocol {
    /// How many groups a class must be in to be in every part of every split: of training, validation and test, or of
    /// the folds, beside each of which two groups must be left to be fitted to and chosen on.
    pub fn groups_of_a_class(&self) -> usize {
        match self.kfold {
            Some(2) => 4,
            folds => folds.unwrap_or(0).max(3),
        }
    }
}

/// One split. Every group is wholly in one part.
#[derive(Debug, Clone)]
pub struct Round {
    /// Its seed.
    pub seed: u64,
    /// Which of the folds.
    pub fold: usize,
    /// Probes are fitted to these items.
    pub train: Vec<usize>,
    /// The penalty is chosen on these.
    pub validation: Vec<usize>,
    /// Touched once.
    pub test: Vec<usize>,
}

/// Every split: 60, 20 and 20 per cent of the items; of folds the rest is split 80 to 20.
///
/// # Errors
/// When there are too few groups, or a class is in too few of them.
pub fn rounds(task: &Task, protocol: Protocol) -> Result<Vec<Round>, ProbeError> {
    let mut rounds = Vec::new();
    for seed in (protocol.seed..).take(protocol.seeds.max(1)) {
        match protocol.kfold {
            None => rounds.push(one(task, seed)?),
            Some(k) => rounds.extend(fold(task, k, seed)?),
        }
    }
    Ok(rounds)
}

fn one(task: &Task, seed: u64) -> Result<Round, ProbeError> {
    let split = Split::new(&task.groups, &task.labels(), Shares::default(), seed);
    let Split { train, validation, test } = split.map_err(ProbeError::of("split", task))?;
    Ok(Round { seed, fold: 0, train: train.rows, validation: validation.rows, test: test.rows })
}

fn fold(task: &Task, k: usize, seed: u64) -> Result<Vec<Round>, ProbeError> {
    let all = folds(&task.groups, &task.labels(), k, seed).map_err(ProbeError::of("folds", task))?;
    let inner = Shares { train: 0.8, validation: 0.0, test: 0.2 };
    let round = |(fold, parts): (usize, layerscope_probes::Fold)| {
        let rest = task.select(&parts.train.rows);
        let split = Split::new(&rest.groups, &rest.labels(), inner, seed)
            .map_err(ProbeError::of(format!("validation part of fold {fold}"), task))?;
        let back = |rows: &[usize]| pick(&parts.train.rows, rows);
        let (train, validation) = (back(&split.train.rows), back(&split.test.rows));
        Ok(Round { seed, fold, train, validation, test: parts.test.rows })
    };
    all.into_iter().enumerate().map(round).collect()
}
