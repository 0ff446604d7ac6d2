//! From cells to rows of `metrics.parquet`.
//!
//! A number is the mean over the seeds of the splits; within a seed folds are put together. Intervals resample groups:
//! a group has the same weight in every seed, layer, control and baseline, so that differences are paired.

mod baselines;
mod layers;
mod numbers;
mod permutations;
mod seeds;

use std::collections::BTreeMap;

use layerscope_probes::{
    Intervals,
    score::{Metric as _, R2},
};

use self::{
    baselines::{baseline_rows, majority},
    layers::At,
    numbers::{Number, row_of},
    permutations::p_rows,
    seeds::Seeds,
};
use super::{Estimator, ProbeError, Round, Target, Task, baseline::Baseline, cell::Cell};
use crate::results::run::{MetricRow, RowKind};

pub use self::layers::{Nested, Summary};
pub(super) use self::numbers::{metrics, row};

/// Everything measured.
pub struct Measured<'a> {
    /// The items.
    pub task: &'a Task,
    /// The splits, in order.
    pub rounds: &'a [Round],
    /// Hook and layer of every point.
    pub points: &'a [(String, usize)],
    /// Cells by point, then split.
    pub cells: &'a [Vec<Cell>],
    /// Baselines by split.
    pub baselines: &'a [Vec<Baseline>],
    /// The estimators.
    pub estimators: &'a [Estimator],
    /// Of the intervals.
    pub intervals: Intervals,
}

/// Every number with its interval, and the best layers.
///
/// # Errors
/// [`ProbeError::Probe`].
pub fn results(measured: &Measured<'_>) -> Result<(Vec<MetricRow>, Vec<Summary>), ProbeError> {
    let seeds = Seeds::new(measured)?;
    let mut rows = baseline_rows(measured, &seeds).map_err(ProbeError::at("baselines"))?;
    let (mut summaries, compared) = (Vec::new(), compared_by(&measured.task.target));
    let majority = majority(measured, &seeds).map_err(ProbeError::at("baselines"))?;
    let mut tested = Vec::new();
    for &estimator in measured.estimators {
        let mut by_hook: BTreeMap<&str, Vec<At>> = BTreeMap::new();
        for (place, (hook, layer)) in measured.points.iter().enumerate() {
            let at = || ProbeError::at(format!("{} at {hook} {layer}", estimator.name()));
            let cells = &measured.cells[place];
            let numbers = seeds.numbers(cells, estimator).map_err(at())?;
            for (metric, number) in &numbers {
                let estimate = number.estimate().map_err(at())?;
                rows.push(row_of(
                    &estimator.name().into(),
                    RowKind::Probe,
                    (hook, *layer as i32),
                    metric,
                    estimate,
                ));
            }
            let converged = cells.iter().all(|c| c.readings[&estimator].fitted.converged);
            if let Some((_, Number::Plain(draws))) =
                numbers.into_iter().find(|(metric, _)| *metric == compared)
            {
                if let Some(majority) = &majority {
                    let over = draws.minus(majority).map_err(at())?;
                    let at = (hook.as_str(), *layer as i32);
                    rows.push(row(
                        &estimator.name().into(),
                        RowKind::Probe,
                        at,
                        "accuracy_over_majority",
                        &over,
                    ));
                }
                by_hook.entry(hook).or_default().push(At { place, layer: *layer, draws, converged });
            }
        }
        for (hook, layers) in by_hook {
            let summary = Summary::new((estimator, hook), &layers, measured, &seeds)?;
            rows.extend(summary.rows(&layers));
            summaries.push(summary);
            tested.extend(layers.into_iter().map(|at| (estimator, hook.to_owned(), at)));
        }
    }
    rows.extend(p_rows(measured, &tested).map_err(ProbeError::at("permutations"))?);
    Ok((rows, summaries))
}

/// Why a metric is missing that the task should have: the seeds whose test part has numbers that do not vary, and so no
/// R².
pub fn undefined(task: &Task, rounds: &[Round]) -> Option<String> {
    let flat = |seed: &u64| {
        let items: Vec<usize> =
            rounds.iter().filter(|r| r.seed == *seed).flat_map(|r| r.test.iter().copied()).collect();
        let Target::Numbers(y) = task.target.select(&items) else { return false };
        R2::new(y.view(), y.view()).is_ok_and(|r2| !r2.point().is_finite())
    };
    let mut seeds: Vec<u64> = rounds.iter().map(|round| round.seed).collect();
    seeds.dedup();
    let flat: Vec<String> = seeds.iter().filter(|seed| flat(seed)).map(u64::to_string).collect();
    (!flat.is_empty()).then(|| {
        let one = if flat.len() == 1 { "" } else { "s" };
        format!("R² is left out: with seed{one} {} the numbers of the test part do not vary", flat.join(", "))
    })
}

/// What layers are compared by.
fn compared_by(target: &Target) -> &'static str {
    match target {
        Target::Classes { .. } => "accuracy",
        Target::Numbers(_) => "r2",
    }
}
