//! What saved probes say of every item, and how often they are right.

use ndarray::Array2;
use rayon::prelude::*;

use super::{Apply, Ready};
use crate::{
    job::{
        JobError,
        probe::{ended, labelled::Labelled},
    },
    probe::{Applied, Features, ProbeError, Target, Task, saved::Facts, side_by_side, write_scores},
    probes::{Weightings, majority},
    results::run::{MetricRow, RowKind},
};

/// A probe with its scores of every item.
type WithScores<'a> = (Applied<'a>, Array2<f64>);

impl Apply {
    /// Scores every item with every probe, and writes that.
    pub(super) fn score(
        &self,
        probes: &[Ready],
        labelled: &Labelled,
        features: &[Features],
    ) -> Result<Vec<MetricRow>, JobError> {
        let task = &labelled.task;
        let intervals = self.intervals.policy(self.seed);
        let weightings = Weightings::new(&task.groups, intervals).map_err(JobError::failed)?;
        let done: Vec<_> = probes
            .par_iter()
            .map(|probe| one(probe, features, task, &weightings))
            .collect::<Result<_, _>>()
            .map_err(ended)?;
        let (scored, rows): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let side = &labelled.sides[0];
        let docs: Vec<u64> =
            side.plan.items.iter().map(|item| side.set.texts[item.text as usize].doc_id).collect();
        write_scores(&self.out, task, &docs, &scored).map_err(ended)?;
        let mut rows = rows.concat();
        rows.extend(commonest(task, &weightings)?);
        Ok(rows)
    }
}

/// One probe's scores and numbers.
fn one<'a>(
    ready: &'a Ready,
    features: &[Features],
    task: &Task,
    weightings: &Weightings,
) -> Result<(WithScores<'a>, Vec<MetricRow>), ProbeError> {
    let Facts { hook, layer, .. } = &ready.saved.facts;
    let probe = Applied { subject: &ready.subject, hook, layer: *layer, linear: &ready.saved.linear };
    let x = side_by_side(features, ready.place)?;
    let (scores, rows) = probe.score(x.view(), task, weightings)?;
    Ok(((probe, scores), rows))
}

/// How often the commonest class of these data is right: what a probe that knows nothing can reach.
fn commonest(task: &Task, weightings: &Weightings) -> Result<Option<MetricRow>, JobError> {
    let Target::Classes { y, names } = &task.target else { return Ok(None) };
    let common = majority(y, names.len()).map_err(JobError::failed)?;
    let right: Vec<f64> = y.iter().map(|y| f64::from(u8::from(*y == common))).collect();
    let draws = weightings.mean(&right).map_err(JobError::failed)?;
    Ok(Some(MetricRow {
        subject: "majority".into(),
        kind: RowKind::Baseline,
        hook: "none".into(),
        layer: -1,
        horizon: 0,
        ..MetricRow::of("majority_accuracy", "share", draws.estimate())
    }))
}
