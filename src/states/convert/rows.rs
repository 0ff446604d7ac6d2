//! A dataset with a row per token.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, FixedSizeListArray, StringArray, UInt32Array, UInt64Array},
    datatypes::{DataType, Field},
};

use super::{
    BATCH_BYTES, Conversion, ConvertError, Converted,
    dataset::{self, Feature, Put},
};
use crate::states::store::{ActDtype, Part};

/// Writes `row_id`, `doc_id`, `pos`, `token_id`, `token`, and each hook under its name.
///
/// # Errors
/// What the export or the disk says.
pub fn rows(conversion: &Conversion<'_>, job: &str) -> Result<Converted, ConvertError> {
    let store = conversion.store;
    let mut features = vec![
        Feature::value("row_id", DataType::UInt64, "uint64"),
        Feature::value("doc_id", DataType::UInt64, "uint64"),
        Feature::value("pos", DataType::UInt32, "uint32"),
        Feature::value("token_id", DataType::UInt32, "uint32"),
        Feature::value("token", DataType::Utf8, "string"),
    ];
    let (kind, name) = (dataset::kind(store.dtype()), dataset::name_of(store.dtype()));
    for column in conversion.columns {
        let width = store.columns()[*column].width;
        features.push(Feature::list(conversion.point(*column), kind.clone(), name, width));
    }
    dataset::write(conversion.out, &features, job, |put| {
        let mut found = Converted::default();
        for part in store.parts(conversion.columns) {
            let part = part?;
            batches(&part, store.dtype(), put)?;
            found.records += part.ids.len() as u64;
            conversion.done(part.ids.len())?;
        }
        found.tokens = found.records;
        Ok(found)
    })
}

/// Hands over a shard in batches.
fn batches(part: &Part, dtype: ActDtype, put: &mut Put<'_>) -> Result<(), ConvertError> {
    let width: usize = part.acts.iter().map(ndarray::Array2::ncols).sum();
    let step = (BATCH_BYTES / (4 * width.max(1))).max(1);
    for from in (0..part.ids.len()).step_by(step) {
        let range = from..part.ids.len().min(from + step);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(part.ids.row_id[range.clone()].to_vec())),
            Arc::new(UInt64Array::from(part.ids.doc_id[range.clone()].to_vec())),
            Arc::new(UInt32Array::from(part.ids.pos[range.clone()].to_vec())),
            Arc::new(UInt32Array::from(part.ids.token_id[range.clone()].to_vec())),
            Arc::new(StringArray::from_iter_values(&part.texts[range.clone()])),
        ];
        for act in &part.acts {
            let some = act.slice(ndarray::s![range.clone(), ..]);
            let values = dataset::numbers(dtype, some.iter().copied().collect());
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            columns.push(Arc::new(FixedSizeListArray::try_new(item, act.ncols() as i32, values, None)?));
        }
        put(columns)?;
    }
    Ok(())
}
