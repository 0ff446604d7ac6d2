//! `.parquet`: a string column and the scalar columns asked for, read a few rows at a time.

use super::{Cell, Columns, Row, Rows, TextError, check_first};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use std::fs::File;

/// Rows decoded at a time: documents can be long.
const BATCH_ROWS: usize = 64;

struct Parquet {
    name: String,
    reader: ParquetRecordBatchReader,
    /// The text column of the batch, then the others.
    batch: Vec<ArrayRef>,
    /// Names and decoded types of these columns.
    columns: Vec<(String, DataType)>,
    /// Next row of the batch.
    next: usize,
    /// Rows of the file already given out.
    done: u64,
}

/// The rows of the columns asked for, numbered from 1. A null is an empty text. The Arrow type the writer had in mind
/// (string, large string, string view, dictionary) does not matter: Parquet stores them all alike.
pub(super) fn rows(name: String, file: File, columns: &Columns) -> Result<Rows, TextError> {
    let bad = |message: String| TextError::Parquet { place: name.clone(), message };
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| bad(one_line(&error)))?;
    let fields = builder.schema().fields().clone();
    let (mut indices, mut typed) = (Vec::new(), Vec::new());
    for column in columns.names() {
        let Some(index) = fields.iter().position(|field| field.name() == column) else {
            let present = fields.iter().map(|field| field.name().clone()).collect();
            return Err(TextError::NoColumn { place: name, column: column.clone(), present });
        };
        let found = fields[index].data_type();
        if typed.is_empty() && *found != DataType::Utf8 {
            return Err(TextError::NotText { place: name, column: column.clone(), found: found.to_string() });
        }
        let Some(wide) = widest(found) else {
            let found = found.to_string();
            return Err(TextError::NotScalar { place: name, column: column.clone(), found });
        };
        indices.push(index);
        typed.push((column.clone(), wide));
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| bad(one_line(&error)))?;
    check_first(Parquet { name, reader, batch: Vec::new(), columns: typed, next: 0, done: 0 })
}

/// The type that a scalar column is read as; nothing for lists, times and the like.
fn widest(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Utf8 | DataType::Boolean => Some(found.clone()),
        found if found.is_integer() => Some(DataType::Int64),
        found if found.is_floating() => Some(DataType::Float64),
        DataType::Decimal128(..) => Some(DataType::Float64),
        _ => None,
    }
}

impl Iterator for Parquet {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.batch.first().is_some_and(|text| self.next < text.len()) {
                let row = self.next;
                self.next += 1;
                self.done += 1;
                let text = match cell(&self.batch[0], row) {
                    Cell::Text(text) => text,
                    _ => String::new(),
                };
                let cells = self.batch[1..].iter().map(|column| cell(column, row)).collect();
                return Some(Ok(Row { place: format!("{}:{}", self.name, self.done), text, cells }));
            }
            if let Err(error) = self.refill()? {
                return Some(Err(error));
            }
        }
    }
}

impl Parquet {
    fn refill(&mut self) -> Option<Result<(), TextError>> {
        let batch = self.reader.next()?;
        let columns = batch.map_err(|error| one_line(&error)).and_then(|batch| self.decode(&batch)).map_err(
            |message| TextError::Parquet { place: format!("{}:{}", self.name, self.done + 1), message },
        );
        self.next = 0;
        Some(columns.map(|columns| self.batch = columns))
    }

    /// The columns of a batch, in the order asked for, as their widest types.
    fn decode(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        let column = |(name, kind): &(String, DataType)| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("column {name:?} is gone"))?;
            let wide = cast(column, kind).map_err(|error| one_line(&error))?;
            // A cast makes null of what does not fit.
            if wide.null_count() > column.null_count() {
                return Err(format!("column {name:?} has a value beyond {kind}"));
            }
            Ok(wide)
        };
        self.columns.iter().map(column).collect()
    }
}

fn cell(column: &ArrayRef, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Missing;
    }
    match column.data_type() {
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Cell::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
        _ => Cell::Text(column.as_string::<i32>().value(row).to_owned()),
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::arrow::ArrowWriter;
    use arrow::array::{
        BooleanArray, Float32Array, Int8Array, Int32Array, LargeStringArray, ListArray, StringArray,
        StringViewArray, UInt64Array,
    };
    use std::sync::Arc;

    fn file(column: ArrayRef) -> File {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..column.len() as i32));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("text", column, true)])
            .expect("a batch");
        let mut file = tempfile::tempfile().expect("a file");
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.flush().expect("a row group ends");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        file
    }

    fn read(file: File, column: &str) -> Result<Vec<(String, String)>, String> {
        let rows = rows("a.parquet".into(), file, &Columns::text(Some(column)))
            .map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| (row.place, row.text)).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn every_string_type_over_two_row_groups() {
        let texts: Vec<_> = (0..100).map(|n| (n != 3).then(|| format!("é{n}"))).collect();
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(LargeStringArray::from(texts.clone())),
            Arc::new(StringViewArray::from_iter(texts.clone())),
        ];
        for column in columns {
            let got = read(file(column), "text").unwrap();
            assert_eq!(got.len(), 200);
            for (i, (place, text)) in got.iter().enumerate() {
                assert_eq!(*place, format!("a.parquet:{}", i + 1));
                assert_eq!(*text, texts[i % 100].clone().unwrap_or_default());
            }
        }
    }

    #[test]
    fn other_columns_and_broken_files_are_named() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let error = read(file(column.clone()), "tex").unwrap_err();
        assert_eq!(
            error,
            "a.parquet: no column \"tex\" (did you mean \"text\"?), columns here: \"n\", \"text\""
        );
        let error = read(file(column), "n").unwrap_err();
        assert_eq!(error, "a.parquet: column \"n\" must be text, got Int32");
        let error = read(tempfile::tempfile().unwrap(), "text").unwrap_err();
        assert!(error.starts_with("a.parquet: bad parquet: "), "{error}");
    }

    fn cells(columns: Vec<(&str, ArrayRef)>, others: &[&str]) -> Result<Vec<Vec<Cell>>, String> {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .expect("a batch");
        let mut file = tempfile::tempfile().expect("a file");
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let columns =
            Columns { text: "text".into(), others: others.iter().map(|name| (*name).into()).collect() };
        let rows = rows("a.parquet".into(), file, &columns).map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| row.cells).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn other_columns_in_the_order_asked_for() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let group: ArrayRef = Arc::new(StringArray::from(vec![Some("g"), None]));
        let small: ArrayRef = Arc::new(Int8Array::from(vec![Some(-1), None]));
        let float: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 2.0]));
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let columns =
            vec![("small", small), ("flag", flag), ("text", text), ("float", float), ("group", group)];
        let got = cells(columns, &["group", "small", "float", "flag"]).unwrap();
        let first = [Cell::Text("g".into()), Cell::Integer(-1), Cell::Number(0.5), Cell::Bool(true)];
        assert_eq!(got[0], first);
        assert_eq!(got[1], [Cell::Missing, Cell::Missing, Cell::Number(2.0), Cell::Bool(false)]);
    }

    #[test]
    fn lists_and_numbers_that_do_not_fit_are_named() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let list: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)])]));
        let error = cells(vec![("text", text.clone()), ("y", list)], &["y"]).unwrap_err();
        assert!(error.starts_with("a.parquet: column \"y\" must be text or a number, got List"), "{error}");
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let error = cells(vec![("text", text), ("y", large)], &["y"]).unwrap_err();
        assert_eq!(error, "a.parquet:1: bad parquet: column \"y\" has a value beyond Int64");
    }
}
