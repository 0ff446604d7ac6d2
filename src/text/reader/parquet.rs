//! `.parquet`: one string column, read a few rows at a time.

use super::{Row, Rows, TextError, check_first};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use arrow::array::{Array, StringArray};
use arrow::datatypes::DataType;
use std::fs::File;

/// Rows decoded at a time: documents can be long.
const BATCH_ROWS: usize = 64;

struct Parquet {
    name: String,
    reader: ParquetRecordBatchReader,
    batch: Option<StringArray>,
    /// Next row of the batch.
    next: usize,
    /// Rows of the file already given out.
    done: u64,
}

/// The rows of one column, numbered from 1. A null is an empty text. The Arrow type the writer had in mind (string,
/// large string, string view, dictionary) does not matter: Parquet stores them all alike.
pub(super) fn rows(name: String, file: File, column: &str) -> Result<Rows, TextError> {
    let bad = |message: String| TextError::Parquet { place: name.clone(), message };
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| bad(one_line(&error)))?;
    let fields = builder.schema().fields().clone();
    let Some(index) = fields.iter().position(|field| field.name() == column) else {
        let present = fields.iter().map(|field| field.name().clone()).collect();
        return Err(TextError::NoColumn { place: name, column: column.into(), present });
    };
    if *fields[index].data_type() != DataType::Utf8 {
        let found = fields[index].data_type().to_string();
        return Err(TextError::NotText { place: name, column: column.into(), found });
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| bad(one_line(&error)))?;
    check_first(Parquet { name, reader, batch: None, next: 0, done: 0 })
}

impl Iterator for Parquet {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.next < batch.len()) {
                let text = if batch.is_null(self.next) { "" } else { batch.value(self.next) };
                self.next += 1;
                self.done += 1;
                return Some(Ok(Row {
                    place: format!("{}:{}", self.name, self.done),
                    text: text.to_owned(),
                }));
            }
            if let Err(error) = self.refill()? {
                return Some(Err(error));
            }
        }
    }
}

impl Parquet {
    fn refill(&mut self) -> Option<Result<(), TextError>> {
        let place = || format!("{}:{}", self.name, self.done + 1);
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(error) => {
                return Some(Err(TextError::Parquet { place: place(), message: one_line(&error) }));
            }
        };
        let Some(strings) = batch.column(0).as_any().downcast_ref::<StringArray>() else {
            let message = format!("expected strings, decoded {}", batch.column(0).data_type());
            return Some(Err(TextError::Parquet { place: place(), message }));
        };
        self.batch = Some(strings.clone());
        self.next = 0;
        Some(Ok(()))
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::arrow::ArrowWriter;
    use arrow::array::{ArrayRef, Int32Array, LargeStringArray, RecordBatch, StringViewArray};
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
        let rows = rows("a.parquet".into(), file, column).map_err(|error| error.to_string())?;
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
}
