//! `components.parquet`: a row per component, for those who sort and sum them.

use std::{path::Path, sync::Arc};

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};

use super::Asked;
use crate::{
    attribution::{Component, Mean, Of},
    job::JobError,
    results::run::{METRICS, RunError, write_table},
};

/// The file's name in the run directory.
pub const COMPONENTS: &str = "components.parquet";

/// The files that this job writes.
pub(super) fn owns(path: &Path) -> bool {
    [METRICS, COMPONENTS].iter().any(|own| path == Path::new(own))
}

/// Of a prompt: every component, neurons where they were asked for. Columns `component`, `layer`, `head`, `neuron`,
/// `estimate`, and where a difference was asked for `answer` and `foil`.
pub(super) fn of_prompt(dir: &Path, asked: &Asked) -> Result<(), JobError> {
    let parts = &asked.parts;
    let numbers = (0..parts.rows())
        .map(|row| -> ArrayRef { Arc::new(Float64Array::from_iter_values(parts.row(row).iter().copied())) });
    let named = ["estimate", "answer", "foil"].into_iter().zip(numbers);
    write(dir, &parts.components, named.collect())
}

/// Of a text: means with their intervals, and means of absolute values; columns `component`, `layer`, `head`, `neuron`,
/// `estimate`, `lower`, `upper`, `absolute`, `n`.
pub(super) fn of_means(dir: &Path, means: &[Mean]) -> Result<(), JobError> {
    let of = |absolute: bool| {
        means.iter().filter(move |mean| mean.absolute == absolute).filter_map(|mean| match mean.of {
            Of::Component(component) => Some((component, mean.number)),
            _ => None,
        })
    };
    let all: Vec<Component> = of(false).map(|(component, _)| component).collect();
    let numbers = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let columns = vec![
        ("estimate", numbers(of(false).map(|(_, number)| Some(number.estimate)).collect())),
        ("lower", numbers(of(false).map(|(_, number)| number.lower()).collect())),
        ("upper", numbers(of(false).map(|(_, number)| number.upper()).collect())),
        ("absolute", numbers(of(true).map(|(_, number)| Some(number.estimate)).collect())),
        (
            "n",
            Arc::new(Int64Array::from_iter_values(of(false).map(|(_, number)| number.n as i64))) as ArrayRef,
        ),
    ];
    write(dir, &all, columns)
}

fn write(dir: &Path, all: &[Component], numbers: Vec<(&str, ArrayRef)>) -> Result<(), JobError> {
    let ints = |of: &dyn Fn(&Component) -> Option<usize>| -> ArrayRef {
        Arc::new(all.iter().map(|component| of(component).map(|n| n as i32)).collect::<Int32Array>())
    };
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("component", Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.name()))), false),
        ("layer", ints(&|c| c.block()), true),
        ("head", ints(&|c| c.head()), true),
        ("neuron", ints(&|c| c.neuron()), true),
    ];
    columns
        .extend(numbers.into_iter().map(|(name, array)| (name, array, ["lower", "upper"].contains(&name))));
    let path = dir.join(COMPONENTS);
    let batch = RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|e| RunError::BadMetrics { path: path.clone(), reason: e.to_string() })?;
    write_table(&path, &batch)?;
    Ok(())
}
