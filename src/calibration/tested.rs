//! How often permutation tests of probes find what is not there, and what is.

use layerscope_probes::p_value;
use ndarray::{Array2, Axis, concatenate};
use rayon::prelude::*;
use serde::Serialize;

use super::random::Random;
use crate::{
    probe::{Estimator, Options, PermutationTest, ProbeError, Target, Task},
    sources::labelled::Unit,
};

/// Rows of a set.
const ROWS: usize = 48;
/// Their width.
const WIDTH: usize = 3;

/// How rows and labels hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Every row is its own group.
    Rows,
    /// Groups of three with one label each.
    Whole,
    /// Groups of several sizes with mixed labels.
    Mixed,
    /// Pairs, of which each has both labels.
    Pairs,
}

impl Grouping {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rows, Self::Whole, Self::Mixed, Self::Pairs];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "single rows",
            Self::Whole => "whole groups",
            Self::Mixed => "mixed groups",
            Self::Pairs => "pairs",
        }
    }

    fn group(self, row: usize) -> u64 {
        let row = row as u64;
        match self {
            Self::Rows => row,
            Self::Whole => row / 3,
            Self::Mixed => (row / 2).min(row / 4 + 6),
            Self::Pairs => row / 2,
        }
    }

    /// Labels that know nothing of states.
    fn labels(self, groups: &[u64], random: &mut Random) -> Vec<u32> {
        let mut coin = || u32::from(random.uniform() < 0.5);
        let of_group: Vec<u32> = (0..ROWS).map(|_| coin()).collect();
        let own: Vec<u32> = (0..ROWS).map(|_| coin()).collect();
        let label = |row: usize| match self {
            Self::Rows => own[row],
            Self::Mixed if row.is_multiple_of(3) => own[row],
            Self::Whole | Self::Mixed => of_group[groups[row] as usize],
            Self::Pairs => of_group[groups[row] as usize] ^ (row % 2) as u32,
        };
        (0..ROWS).map(label).collect()
    }

    /// The same of numbers.
    fn numbers(self, groups: &[u64], random: &mut Random) -> Vec<f64> {
        let of_group: Vec<f64> = (0..ROWS).map(|_| random.normal()).collect();
        let own: Vec<f64> = (0..ROWS).map(|_| random.normal()).collect();
        let number = |row: usize| match self {
            Self::Rows | Self::Pairs => own[row],
            Self::Whole => of_group[groups[row] as usize],
            Self::Mixed => 0.7 * (own[row] + of_group[groups[row] as usize]),
        };
        (0..ROWS).map(number).collect()
    }
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One of two classes.
    Classes,
    /// A number, by R².
    Numbers,
    /// A class, from a statement and its negation, by a direction that is found without labels.
    Negations,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Classes, Self::Numbers, Self::Negations];

    /// In words, behind a probe's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "",
            Self::Numbers => " of numbers",
            Self::Negations => " of negations",
        }
    }

    fn estimators(self) -> &'static [Estimator] {
        match self {
            Self::Classes => &[
                Estimator::Logistic,
                Estimator::Ridge,
                Estimator::MeanDiff,
                Estimator::Lda,
                Estimator::Centroid,
            ],
            Self::Numbers => &[Estimator::Ridge],
            Self::Negations => &[Estimator::Ccs, Estimator::Crc],
        }
    }

    /// Pairs are there to exchange the classes of their rows.
    fn groupings(self) -> &'static [Grouping] {
        if self == Self::Classes { &Grouping::ALL } else { &Grouping::ALL[..3] }
    }
}

/// What the test of an estimator did over many sets of one grouping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tested {
    /// The probe.
    pub estimator: Estimator,
    /// What it predicts.
    pub kind: Kind,
    /// The grouping.
    pub grouping: Grouping,
    /// Sets.
    pub draws: usize,
    /// Share of sets without signal with p ≤ .05.
    pub false_alarms: f64,
    /// Share of sets with signal with p ≤ .05.
    pub power: f64,
}

/// Every probe on `draws` sets of each grouping, without signal and with a signal of 1.4 standard deviations; p over
/// `permutations`.
///
/// # Errors
/// When a probe cannot be fitted.
pub fn tested(
    draws: usize,
    permutations: usize,
    seed: u64,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Tested>, ProbeError> {
    let mut all = Vec::new();
    for (kind, grouping) in Kind::ALL.into_iter().flat_map(|k| k.groupings().iter().map(move |g| (k, *g))) {
        let one = |draw: usize| -> Result<Vec<[bool; 2]>, ProbeError> {
            let stream = (kind as u64) << 40 | (grouping as u64) << 32 | draw as u64;
            let mut random = Random::new(seed, stream);
            let sets = [0.0, 1.0].map(|signal| set((kind, grouping), signal, &mut random));
            let found = |estimator: &Estimator| -> Result<[bool; 2], ProbeError> {
                let mut found = [false; 2];
                for (found, set) in found.iter_mut().zip(&sets) {
                    *found = p(set, *estimator, draw as u64, permutations)? <= 0.05;
                }
                Ok(found)
            };
            let found = kind.estimators().iter().map(found).collect();
            done();
            found
        };
        let found = (0..draws).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        for (place, &estimator) in kind.estimators().iter().enumerate() {
            let share = |signal: usize| {
                found.iter().filter(|of| of[place][signal]).count() as f64 / draws.max(1) as f64
            };
            all.push(Tested { estimator, kind, grouping, draws, false_alarms: share(0), power: share(1) });
        }
    }
    Ok(all)
}

/// Sets that [`tested`] draws, for each of its `draws`.
pub const KINDS_OF_SETS: usize = 10;

/// States, labels, and how probes are fitted to them.
struct Set {
    x: Array2<f32>,
    task: Task,
    options: Options,
}

/// States alike within a group, those of class 1 (of larger numbers) further along the first dimension, their negations
/// as far the other way.
fn set((kind, grouping): (Kind, Grouping), signal: f64, random: &mut Random) -> Set {
    let groups: Vec<u64> = (0..ROWS).map(|row| grouping.group(row)).collect();
    let classes = grouping.labels(&groups, random);
    let numbers: Vec<f64> = grouping.numbers(&groups, random);
    let label = |row: usize| if kind == Kind::Numbers { numbers[row] } else { f64::from(classes[row]) };
    let mut states = |sign: f64| {
        let of_group = Array2::from_shape_fn((ROWS, WIDTH), |_| 0.5 * random.normal());
        Array2::from_shape_fn((ROWS, WIDTH), |(row, dim)| {
            let own = 0.5 * random.normal() + of_group[[groups[row] as usize, dim]];
            (own + if dim == 0 { sign * signal * label(row) } else { 0.0 }) as f32
        })
    };
    let x = match kind {
        Kind::Negations => concatenate![Axis(1), states(1.0), states(-1.0)],
        Kind::Classes | Kind::Numbers => states(1.0),
    };
    let target = match kind {
        Kind::Numbers => Target::Numbers(Array2::from_shape_fn((ROWS, 1), |(row, _)| numbers[row])),
        _ => Target::Classes { y: classes, names: vec!["no".into(), "yes".into()] },
    };
    let windows = (0..ROWS as u32).collect();
    let paired = kind == Kind::Negations;
    Set {
        x,
        task: Task { target, groups, types: None, windows, unit: Unit::Text },
        options: Options { l2: vec![1.0, 100.0], standardise: true, balanced: false, paired },
    }
}

fn p(set: &Set, estimator: Estimator, seed: u64, permutations: usize) -> Result<f64, ProbeError> {
    let at = || ProbeError::at(format!("simulated set {seed}"));
    let test = PermutationTest::new(set.x.view(), &set.task, &set.options, seed).map_err(at())?;
    let values = test.values(estimator, permutations).map_err(at())?;
    // Without a value nothing was found.
    let Some((observed, null)) = values.as_deref().and_then(<[f64]>::split_first) else { return Ok(1.0) };
    p_value(*observed, null).map_err(at())
}
