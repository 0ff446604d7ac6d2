//! Fitted probes on other data: their numbers and, item by item, their scores.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Builder, Int32Array, ListBuilder, RecordBatch, StringArray, UInt64Array},
    error::ArrowError,
};
use layerscope_probes::{Linear, Probe as _, Weightings, score::Classified};
use ndarray::{Array2, ArrayView2};

use super::{ProbeError, Target, Task, results::metrics, results::row};
use crate::results::run::{MetricRow, RowKind, RunError, write_table};

/// The file of scores in the run directory.
pub const SCORES: &str = "scores.parquet";

/// A fitted probe and where it reads.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    /// What it is called in `metrics.parquet`.
    pub subject: &'a str,
    /// The hook's short name.
    pub hook: &'a str,
    /// Its layer.
    pub layer: usize,
    /// On raw states.
    pub linear: &'a Linear,
}

impl Applied<'_> {
    /// Scores `(n, k)` of the states `x` `(n, d)` and every metric of them (kind `applied`), with intervals over
    /// groups. The classes of `task` are the probe's, in its order.
    ///
    /// # Errors
    /// [`ProbeError::Probe`] when the widths differ or a state is not finite.
    pub fn score(
        &self,
        x: ArrayView2<'_, f32>,
        task: &Task,
        weightings: &Weightings,
    ) -> Result<(Array2<f64>, Vec<MetricRow>), ProbeError> {
        let at = || ProbeError::at(format!("{} at {} {}", self.subject, self.hook, self.layer));
        let scores = self.linear.scores(x).map_err(at())?;
        let all = metrics(&task.target, weightings, &scores).map_err(at())?;
        let point = (self.hook, self.layer as i32);
        let rows = all
            .iter()
            .map(|(name, draws)| row(&self.subject.into(), RowKind::Applied, point, name, draws))
            .collect();
        Ok((scores, rows))
    }
}

/// Writes [`SCORES`]: a row for every probe and item. Columns: `subject`, `hook`, `layer`, `item` (from 0), `doc_id`,
/// `label`, `predicted` and `scores`, the list behind it (for classes log-probabilities, or what the probe has in place
/// of them).
///
/// # Errors
/// [`ProbeError::Run`] when the file cannot be written.
pub fn write_scores(
    run: &Path,
    task: &Task,
    doc_ids: &[u64],
    scored: &[(Applied<'_>, Array2<f64>)],
) -> Result<(), ProbeError> {
    let path = run.join(SCORES);
    let bad = |e: ArrowError| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
    let mut labels: Vec<String> = Vec::new();
    let mut predicted: Vec<String> = Vec::new();
    let mut lists = ListBuilder::new(Float64Builder::new());
    for (probe, scores) in scored {
        let (label, found) = names(task, scores)
            .map_err(ProbeError::at(format!("{} at {} {}", probe.subject, probe.hook, probe.layer)))?;
        labels.extend(label);
        predicted.extend(found);
        scores.outer_iter().for_each(|row| lists.append_value(row.iter().map(|x| Some(*x))));
    }
    let n = doc_ids.len();
    let repeated = |of: &dyn Fn(&Applied<'_>) -> String| -> ArrayRef {
        let all = scored.iter().flat_map(|(probe, _)| std::iter::repeat_n(of(probe), n));
        Arc::new(StringArray::from_iter_values(all))
    };
    let layers = scored.iter().flat_map(|(probe, _)| std::iter::repeat_n(probe.layer as i32, n));
    let columns: [(&str, ArrayRef); 8] = [
        ("subject", repeated(&|probe| probe.subject.to_owned())),
        ("hook", repeated(&|probe| probe.hook.to_owned())),
        ("layer", Arc::new(Int32Array::from_iter_values(layers))),
        ("item", Arc::new(UInt64Array::from_iter_values(scored.iter().flat_map(|_| 0..n as u64)))),
        (
            "doc_id",
            Arc::new(UInt64Array::from_iter_values(scored.iter().flat_map(|_| doc_ids.iter().copied()))),
        ),
        ("label", Arc::new(StringArray::from(labels))),
        ("predicted", Arc::new(StringArray::from(predicted))),
        ("scores", Arc::new(lists.finish())),
    ];
    write_table(&path, &RecordBatch::try_from_iter(columns).map_err(bad)?)?;
    Ok(())
}

/// The label and the prediction of every item, in words.
fn names(task: &Task, scores: &Array2<f64>) -> Result<(Vec<String>, Vec<String>), layerscope_probes::Error> {
    Ok(match &task.target {
        Target::Classes { y, names } => {
            let name = |class: &u32| names[*class as usize].clone();
            let classified = Classified::new(scores.view(), y)?;
            let found = classified.predicted();
            (y.iter().map(name).collect(), found.iter().map(name).collect())
        }
        Target::Numbers(y) => {
            (y.iter().map(ToString::to_string).collect(), scores.iter().map(ToString::to_string).collect())
        }
    })
}
