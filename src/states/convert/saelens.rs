//! The cache that `SAELens` trains from: a row per context of equally many consecutive tokens.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, FixedSizeListArray, Int32Array, ListArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};

use super::{
    BATCH_BYTES, Conversion, ConvertError, Converted,
    dataset::{self, Feature, Put},
    runs::{self, Run},
};
use crate::states::store::ActDtype;

/// Writes contexts of `context` tokens: per hook `Array2D [context, d]` under its name, and `token_ids`. What is left
/// of a document behind its last whole context is left out.
///
/// # Errors
/// When no context is whole; what the export or the disk says.
pub fn saelens(conversion: &Conversion<'_>, context: usize, job: &str) -> Result<Converted, ConvertError> {
    let store = conversion.store;
    let longest = conversion.cut.lengths(&store.rows()?).longest;
    if longest < context || context == 0 {
        return Err(ConvertError::TooShort { wanted: context, longest });
    }
    let widths: Vec<usize> = conversion.columns.iter().map(|column| store.columns()[*column].width).collect();
    let shaped = conversion.columns.iter().zip(&widths);
    let mut features: Vec<Feature> = shaped
        .map(|(column, width)| Feature::array2d(conversion.point(*column), store.dtype(), [context, *width]))
        .collect();
    features.push(Feature::list("token_ids", DataType::Int32, "int32", context));
    let most = (BATCH_BYTES / (4 * context * widths.iter().sum::<usize>().max(1))).max(1);
    let conversion = &Conversion { cut: conversion.cut.at_most(context), ..*conversion };
    dataset::write(conversion.out, &features, job, |put| {
        let mut batch = Batch::new(context, widths, store.dtype());
        let mut found = Converted::default();
        runs::each(conversion, &mut |run| {
            if run.ids.len() < context {
                found.left_out += run.ids.len() as u64;
                return Ok(());
            }
            found.records += 1;
            batch.add(run);
            if batch.contexts() == most { batch.put(put) } else { Ok(()) }
        })?;
        batch.put(put)?;
        found.tokens = found.records * context as u64;
        Ok(found)
    })
}

/// Contexts on their way into a file.
struct Batch {
    context: usize,
    widths: Vec<usize>,
    dtype: ActDtype,
    ids: Vec<i32>,
    acts: Vec<Vec<f32>>,
}

impl Batch {
    fn new(context: usize, widths: Vec<usize>, dtype: ActDtype) -> Self {
        let acts = vec![Vec::new(); widths.len()];
        Self { context, widths, dtype, ids: Vec::new(), acts }
    }

    fn contexts(&self) -> usize {
        self.ids.len() / self.context
    }

    fn add(&mut self, run: &Run) {
        self.ids.extend(run.ids.iter().map(|id| id.cast_signed()));
        self.acts.iter_mut().zip(&run.acts).for_each(|(all, own)| all.extend(own));
    }

    /// Hands over what was added.
    fn put(&mut self, put: &mut Put<'_>) -> Result<(), ConvertError> {
        let n = self.contexts();
        if n == 0 {
            return Ok(());
        }
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (act, width) in self.acts.iter_mut().zip(&self.widths) {
            let values = dataset::numbers(self.dtype, std::mem::take(act));
            let rows = lists(values, n * self.context, *width)?;
            columns.push(lists(rows, n, self.context)?);
        }
        let ids = Arc::new(Int32Array::from(std::mem::take(&mut self.ids)));
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        columns.push(Arc::new(FixedSizeListArray::try_new(item, self.context as i32, ids, None)?));
        put(columns)
    }
}

/// `n` lists of `len` each.
fn lists(values: ArrayRef, n: usize, len: usize) -> Result<ArrayRef, ConvertError> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(len, n));
    Ok(Arc::new(ListArray::try_new(item, offsets, values, None)?))
}
