//! Arrow IPC file, uncompressed: `pyarrow.ipc.open_file(pyarrow.memory_map(path))` reads it without a copy.

use std::io::{Cursor, Write};
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, AsArray as _, RecordBatch, UInt32Array, UInt64Array, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use super::{Acts, BoxError, Rows};
use crate::sources::text::arrow_sizes;
use crate::states::store::ActDtype;
use crate::states::store::schema::acts_schema;

/// Bytes of numbers per record batch.
const BATCH_BYTES: usize = 16 << 20;

/// Writes `row_id, doc_id, pos, token_id, act`.
pub(super) fn write(out: &mut impl Write, acts: &Acts<'_>) -> Result<(), BoxError> {
    let schema = acts_schema(acts.column.width, acts.dtype, acts.metadata());
    let mut writer = FileWriter::try_new(out, &schema)?;
    let batch_rows = (BATCH_BYTES / acts.row_bytes()).max(1);
    for (i, numbers) in acts.act.chunks(batch_rows * acts.row_bytes()).enumerate() {
        let rows = i * batch_rows..i * batch_rows + numbers.len() / acts.row_bytes();
        let act = list(schema.field(4).data_type(), numbers, rows.len(), acts)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(acts.ids.row_id[rows.clone()].to_vec())),
            Arc::new(UInt64Array::from(acts.ids.doc_id[rows.clone()].to_vec())),
            Arc::new(UInt32Array::from(acts.ids.pos[rows.clone()].to_vec())),
            Arc::new(UInt32Array::from(acts.ids.token_id[rows].to_vec())),
            act,
        ];
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.finish()?;
    Ok(())
}

fn list(kind: &DataType, numbers: &[u8], rows: usize, acts: &Acts<'_>) -> Result<ArrayRef, BoxError> {
    let items = ArrayData::builder(acts.dtype.arrow())
        .len(rows * acts.column.width)
        .add_buffer(Buffer::from(numbers))
        .build()?;
    Ok(make_array(ArrayData::builder(kind.clone()).len(rows).add_child_data(items).build()?))
}

/// Reads the column `act`.
pub(super) fn read(file: &[u8], width: usize, dtype: ActDtype, out: &mut [f32]) -> Result<(), BoxError> {
    arrow_sizes::check(&mut Cursor::new(file), false)?;
    let reader = FileReader::try_new(Cursor::new(file), None)?;
    if reader.schema().fields() != acts_schema(width, dtype, Vec::new()).fields() {
        return Err(format!("the schema is {}", reader.schema()).into());
    }
    let mut rows = Rows::new(dtype, out);
    for batch in reader {
        let batch = batch?;
        rows.put(batch.column(4).as_fixed_size_list().values())?;
    }
    rows.finish()
}
