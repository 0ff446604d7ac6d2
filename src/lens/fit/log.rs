//! `fit.parquet`: the losses of every target, layer and step.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use layerscope_lenses::LayerIndex;
use tch::Tensor;

use crate::results::run::{RunError, write_table};

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// Steps done.
    pub step: usize,
    /// Which fit.
    pub target: String,
    /// Tokens ahead.
    pub horizon: usize,
    /// Place of the layer among those fitted.
    pub layer: usize,
    /// Mean loss over the step's tokens before the step was made, nats.
    pub train: Option<f64>,
    /// Mean loss over the held-out tokens, nats.
    pub held_out: Option<f64>,
}

/// Everything logged so far.
#[derive(Debug, Default)]
pub struct FitLog {
    rows: Vec<LogRow>,
}

impl FitLog {
    /// The lines, in the order they were logged.
    pub fn rows(&self) -> &[LogRow] {
        &self.rows
    }

    pub(super) fn trained(&mut self, step: usize, target: &str, horizon: usize, losses: &[Option<f64>]) {
        let row = |(layer, loss): (usize, &Option<f64>)| LogRow {
            step,
            target: target.to_owned(),
            horizon,
            layer,
            train: *loss,
            held_out: None,
        };
        self.rows.extend(losses.iter().enumerate().map(row));
    }

    pub(super) fn validated(&mut self, step: usize, target: &str, horizon: usize, losses: &[f64]) {
        for (layer, loss) in losses.iter().enumerate() {
            // A second validation of one step (the closed form after the identity) is a line of its own.
            let same = |row: &&mut LogRow| {
                row.step == step && row.target == target && row.layer == layer && row.held_out.is_none()
            };
            match self.rows.iter_mut().rev().find(same) {
                Some(row) => row.held_out = Some(*loss),
                None => self.rows.push(LogRow {
                    step,
                    target: target.to_owned(),
                    horizon,
                    layer,
                    train: None,
                    held_out: Some(*loss),
                }),
            }
        }
    }

    /// As a tensor `[rows, 6]` for a checkpoint; targets by their place in `targets`.
    pub fn state(&self, targets: &[String]) -> Tensor {
        let number = |row: &LogRow| {
            let target = targets.iter().position(|t| *t == row.target).unwrap_or(usize::MAX);
            let or_nan = |x: Option<f64>| x.unwrap_or(f64::NAN);
            [
                row.step as f64,
                target as f64,
                row.horizon as f64,
                row.layer as f64,
                or_nan(row.train),
                or_nan(row.held_out),
            ]
        };
        let numbers: Vec<f64> = self.rows.iter().flat_map(number).collect();
        Tensor::from_slice(&numbers).view([-1, 6])
    }

    /// From what [`FitLog::state`] gave.
    ///
    /// # Errors
    /// When the tensor is of another shape.
    pub fn restore(state: &Tensor, targets: &[String]) -> Result<Self, tch::TchError> {
        let numbers = Vec::<f64>::try_from(state.f_reshape([-1])?)?;
        let known = |x: f64| (!x.is_nan()).then_some(x);
        let row = |n: &[f64]| LogRow {
            step: n[0] as usize,
            target: targets.get(n[1] as usize).cloned().unwrap_or_default(),
            horizon: n[2] as usize,
            layer: n[3] as usize,
            train: known(n[4]),
            held_out: known(n[5]),
        };
        Ok(Self { rows: numbers.chunks_exact(6).map(row).collect() })
    }
}

/// Writes `dir/fit.parquet`: step, target, horizon, layer, train and `held_out` losses in nats. `layers` says which
/// layer each place is.
///
/// # Errors
/// When the file cannot be written.
pub fn write_log(dir: &Path, log: &FitLog, layers: &[LayerIndex]) -> Result<(), RunError> {
    let ints = |get: &dyn Fn(&LogRow) -> usize| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(log.rows.iter().map(|r| get(r) as i32)))
    };
    let losses = |get: fn(&LogRow) -> Option<f64>| -> ArrayRef {
        Arc::new(log.rows.iter().map(get).collect::<Float64Array>())
    };
    let columns: [(&str, ArrayRef, bool); 6] = [
        ("step", ints(&|r| r.step), false),
        ("target", Arc::new(StringArray::from_iter_values(log.rows.iter().map(|r| &r.target))), false),
        ("horizon", ints(&|r| r.horizon), false),
        ("layer", ints(&|r| layers.get(r.layer).map_or(r.layer, |l| l.0)), false),
        ("train", losses(|r| r.train), true),
        ("held_out", losses(|r| r.held_out), true),
    ];
    let field = |(name, array, nullable): &(&str, ArrayRef, bool)| {
        let kind: DataType = array.data_type().clone();
        Field::new(*name, kind, *nullable)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let path = dir.join("fit.parquet");
    let bad =
        |e: arrow::error::ArrowError| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
    let arrays = columns.iter().map(|c| Arc::clone(&c.1)).collect();
    write_table(&path, &RecordBatch::try_new(Arc::new(schema), arrays).map_err(bad)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_comes_back_from_its_state() {
        let mut log = FitLog::default();
        log.validated(0, "b", 2, &[3.0, 4.0]);
        log.trained(1, "b", 2, &[Some(2.0), None]);
        log.validated(1, "b", 2, &[1.5, 1.25]);
        assert_eq!(log.rows().len(), 4);
        assert_eq!((log.rows()[3].train, log.rows()[3].held_out), (None, Some(1.25)));
        let names = ["a".to_owned(), "b".to_owned()];
        let back = FitLog::restore(&log.state(&names), &names).unwrap();
        assert_eq!(back.rows(), log.rows());
        assert!(FitLog::restore(&FitLog::default().state(&names), &names).unwrap().rows().is_empty());
    }
}
