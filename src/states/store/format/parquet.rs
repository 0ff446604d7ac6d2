//! Parquet: the ids through the crate's own column writers, the numbers through [`super::leaf`].

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{Schema, UInt32Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use super::leaf::{Chunk, PAGE_BYTES};
use super::page::ZSTD_LEVEL;
use super::{Acts, BoxError, Rows, widened};
use crate::states::store::schema::{acts_schema, metadata, tokens_schema};
use crate::states::store::{ActDtype, RowIds};

/// Bytes of numbers per row group, rounded to whole pages.
const GROUP_BYTES: usize = 16 << 20;
/// Rows decoded at a time.
const READ_ROWS: usize = 4096;

/// Writes `row_id, doc_id, pos, token_id, act`.
pub(super) fn write(out: &mut (impl Write + Send), acts: &Acts<'_>) -> Result<(), BoxError> {
    let schema = acts_schema(acts.column.width, acts.dtype, acts.metadata());
    let mut properties = properties(acts.metadata())?.build();
    add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
    let descriptor = ArrowSchemaConverter::new().convert(&schema)?;
    let leaf = descriptor.column(4);
    let mut file = SerializedFileWriter::new(out, descriptor.root_schema_ptr(), Arc::new(properties))?;
    // Parquet has no bf16: the same numbers in f32, half of whose planes are zeros and compress to nothing.
    let (stored, row_bytes) = (acts.dtype.arrow().primitive_width().unwrap_or(4), acts.row_bytes());
    let group_rows = (PAGE_BYTES / (acts.column.width * stored)).max(1) * (GROUP_BYTES / PAGE_BYTES);
    let mut chunk = Chunk::take();
    for (i, group) in acts.act.chunks(group_rows * row_bytes).enumerate() {
        let wide = (stored > acts.dtype.size()).then(|| widened(group));
        let close = chunk.encode(&leaf, wide.as_deref().unwrap_or(group), acts.column.width, stored)?;
        let rows = i * group_rows..i * group_rows + group.len() / row_bytes;
        let mut writer = file.next_row_group()?;
        put_ids::<Int64Type>(&mut writer, acts.ids.row_id[rows.clone()].iter().map(|&x| x.cast_signed()))?;
        put_ids::<Int64Type>(&mut writer, acts.ids.doc_id[rows.clone()].iter().map(|&x| x.cast_signed()))?;
        put_ids::<Int32Type>(&mut writer, acts.ids.pos[rows.clone()].iter().map(|&x| x.cast_signed()))?;
        put_ids::<Int32Type>(&mut writer, acts.ids.token_id[rows].iter().map(|&x| x.cast_signed()))?;
        writer.append_column(&&chunk, close)?;
        writer.close()?;
    }
    chunk.keep();
    file.close()?;
    Ok(())
}

fn put_ids<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    ids: impl Iterator<Item = T::T>,
) -> Result<(), ParquetError> {
    let ids: Vec<T::T> = ids.collect();
    let mut column =
        group.next_column()?.ok_or_else(|| ParquetError::General("the schema has too few columns".into()))?;
    column.typed::<T>().write_batch(&ids, None, None)?;
    column.close()
}

/// Writes `row_id, doc_id, pos, token_id, token`.
pub(crate) fn write_tokens(
    out: &mut (impl Write + Send),
    ids: &RowIds,
    text: &(dyn Fn(u32) -> String + Sync),
    model_sha256: &str,
) -> Result<(), BoxError> {
    let pairs = metadata(None, ActDtype::F32, model_sha256);
    let properties = properties(pairs)?.build();
    let mut texts: HashMap<u32, String> = HashMap::new();
    for id in &ids.token_id {
        texts.entry(*id).or_insert_with(|| text(*id));
    }
    let token: StringArray = ids.token_id.iter().map(|id| texts.get(id)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(ids.row_id.clone())),
        Arc::new(UInt64Array::from(ids.doc_id.clone())),
        Arc::new(UInt32Array::from(ids.pos.clone())),
        Arc::new(UInt32Array::from(ids.token_id.clone())),
        Arc::new(token),
    ];
    let batch = RecordBatch::try_new(tokens_schema(), columns)?;
    let mut writer = ArrowWriter::try_new(out, tokens_schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Row numbers and positions grow by small steps: deltas. Tokens repeat: dictionary. Statistics on ids only.
fn properties(pairs: Vec<(String, String)>) -> Result<WriterPropertiesBuilder, ParquetError> {
    let pairs = pairs.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_created_by(concat!("layerscope ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(pairs));
    for delta in ["row_id", "doc_id", "pos"] {
        let path = ColumnPath::from(delta);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(builder)
}

/// Reads the column `act`.
pub(super) fn read(file: Bytes, width: usize, dtype: ActDtype, out: &mut [f32]) -> Result<(), BoxError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let expected = acts_schema(width, dtype, Vec::new());
    let found = builder.schema();
    if found.fields() != expected.fields() {
        return Err(format!("columns are {}, expected {}", types(found), types(&expected)).into());
    }
    let act = parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), [4]);
    let reader = builder.with_projection(act).with_batch_size(READ_ROWS).build()?;
    let mut rows = Rows::new(dtype, out);
    for batch in reader {
        let batch = batch?;
        let list = batch.column(0).as_fixed_size_list_opt().ok_or("`act` is not a list")?;
        let numbers = list.slice(0, list.len());
        rows.put(numbers.values())?;
    }
    rows.finish()
}

/// Reads the ids of a token table.
pub(super) fn read_tokens(file: Bytes) -> Result<(RowIds, Vec<String>), BoxError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    if builder.schema().fields() != tokens_schema().fields() {
        return Err(format!("columns are {}", types(builder.schema())).into());
    }
    let (mut ids, mut texts) = (RowIds::default(), Vec::new());
    for batch in builder.with_batch_size(READ_ROWS).build()? {
        let batch = batch?;
        ids.row_id.extend(batch.column(0).as_primitive::<UInt64Type>().values());
        ids.doc_id.extend(batch.column(1).as_primitive::<UInt64Type>().values());
        ids.pos.extend(batch.column(2).as_primitive::<UInt32Type>().values());
        ids.token_id.extend(batch.column(3).as_primitive::<UInt32Type>().values());
        texts.extend(batch.column(4).as_string::<i32>().iter().map(|t| t.unwrap_or_default().to_owned()));
    }
    Ok((ids, texts))
}

fn types(schema: &Schema) -> String {
    let one = |f: &Arc<arrow::datatypes::Field>| format!("{} {}", f.name(), f.data_type());
    schema.fields().iter().map(one).collect::<Vec<_>>().join(", ")
}
