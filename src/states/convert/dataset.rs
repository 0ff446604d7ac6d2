//! A folder as `datasets.Dataset.save_to_disk` writes it: an Arrow stream, and two JSON files that describe it.

use std::{collections::HashMap, io::Write, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float16Array, Float32Array, RecordBatch},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef},
    ipc::writer::StreamWriter,
};
use half::f16;
use serde_json::{Map, Value, json};

use super::ConvertError;
use crate::{
    results::{
        hash::sha256,
        run::{RunError, write_atomic},
    },
    states::store::ActDtype,
};

/// The only data file: `datasets` maps it, however large.
pub const DATA: &str = "data-00000-of-00001.arrow";

/// A column, and what `datasets` calls it.
pub(super) struct Feature {
    pub(super) field: Field,
    json: Value,
}

impl Feature {
    /// One number or text a row.
    pub(super) fn value(name: &str, kind: DataType, dtype: &str) -> Self {
        Self { field: Field::new(name, kind, true), json: value(dtype) }
    }

    /// A list of as many numbers a row.
    pub(super) fn list(name: &str, kind: DataType, dtype: &str, length: usize) -> Self {
        let item = Arc::new(Field::new("item", kind, true));
        // `Sequence` with a length is what every version reads; newer ones write `List`.
        let json = json!({ "feature": value(dtype), "length": length, "_type": "Sequence" });
        Self { field: Field::new(name, DataType::FixedSizeList(item, length as i32), true), json }
    }

    /// A matrix a row.
    pub(super) fn array2d(name: &str, dtype: ActDtype, shape: [usize; 2]) -> Self {
        let inner = DataType::List(Arc::new(Field::new("item", kind(dtype), true)));
        let list = DataType::List(Arc::new(Field::new("item", inner, true)));
        let metadata = HashMap::from([
            ("ARROW:extension:name".to_owned(), "datasets.features.features.Array2DExtensionType".to_owned()),
            (
                "ARROW:extension:metadata".to_owned(),
                format!("[[{}, {}], \"{}\"]", shape[0], shape[1], name_of(dtype)),
            ),
        ]);
        let json = json!({ "shape": shape, "dtype": name_of(dtype), "_type": "Array2D" });
        Self { field: Field::new(name, list, true).with_metadata(metadata), json }
    }
}

fn value(dtype: &str) -> Value {
    json!({ "dtype": dtype, "_type": "Value" })
}

/// The type of numbers, which has no bf16: those are f32 as well.
pub(super) fn kind(dtype: ActDtype) -> DataType {
    if dtype == ActDtype::F16 { DataType::Float16 } else { DataType::Float32 }
}

/// Its name there.
pub(super) fn name_of(dtype: ActDtype) -> &'static str {
    if dtype == ActDtype::F16 { "float16" } else { "float32" }
}

/// Numbers of that type.
pub(super) fn numbers(dtype: ActDtype, values: Vec<f32>) -> ArrayRef {
    if dtype == ActDtype::F16 {
        Arc::new(Float16Array::from_iter_values(values.into_iter().map(f16::from_f32)))
    } else {
        Arc::new(Float32Array::from(values))
    }
}

fn features(features: &[Feature]) -> Value {
    let named = features.iter().map(|feature| (feature.field.name().clone(), feature.json.clone()));
    Value::Object(named.collect::<Map<_, _>>())
}

fn schema(of: &[Feature]) -> SchemaRef {
    let fields: Fields = of.iter().map(|feature| feature.field.clone()).collect();
    let info = json!({ "info": { "features": features(of) } }).to_string();
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([("huggingface".to_owned(), info)])))
}

/// Takes the columns of some rows.
pub(super) type Put<'p> = dyn FnMut(Vec<ArrayRef>) -> Result<(), ConvertError> + 'p;

/// Writes the dataset: `fill` hands over batches of rows.
pub(super) fn write<T>(
    out: &Path,
    of: &[Feature],
    job: &str,
    fill: impl FnOnce(&mut Put<'_>) -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    let schema = schema(of);
    let path = out.join(DATA);
    let (found, _) = write_atomic(&path, |file| {
        let mut stream = StreamWriter::try_new(file, &schema)?;
        let found =
            fill(&mut |columns| Ok(stream.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?))?;
        stream.finish()?;
        Ok::<_, ConvertError>(found)
    })?;
    text(
        &out.join("dataset_info.json"),
        &json!({ "citation": "", "description": "", "features": features(of), "homepage": "", "license": "" }),
    )?;
    // Caches of `datasets` are kept by the fingerprint: another job, another dataset.
    let fingerprint: String = sha256(job.as_bytes()).chars().take(16).collect();
    let state = json!({
        "_data_files": [{ "filename": DATA }],
        "_fingerprint": fingerprint,
        "_format_columns": null,
        "_format_kwargs": {},
        "_format_type": null,
        "_output_all_columns": false,
        "_split": null,
    });
    text(&out.join("state.json"), &state)?;
    Ok(found)
}

fn text(path: &Path, value: &Value) -> Result<(), RunError> {
    let bytes = format!("{value:#}\n");
    write_atomic(path, |file| file.write_all(bytes.as_bytes()).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}
