//! `.parquet`, read a few rows at a time. The Arrow type the writer had in mind (string, large string, string view,
//! dictionary) does not matter: Parquet stores them all alike.

use super::columnar::{self, BATCH_ROWS, Chosen, attempt};
use super::{Columns, Rows, TextError};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::fs::File;

const FORMAT: &str = "parquet";

/// The rows of the columns asked for.
pub(super) fn rows(name: String, file: File, columns: &Columns) -> Result<Rows, TextError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let open = || ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
    let builder = attempt(&name, FORMAT, open)?;
    let chosen = Chosen::of(&name, builder.schema().fields(), columns)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), chosen.places.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let batches = attempt(&name, FORMAT, || builder.build())?;
    columnar::rows(name, FORMAT, Box::new(batches), chosen)
}

#[cfg(test)]
mod tests {
    use super::super::RecordCell;
    use super::*;
    use ::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Float32Array, Int8Array, Int32Array, LargeStringArray,
        ListArray, RecordBatch, StringArray, StringViewArray, UInt64Array,
    };
    use ::arrow::datatypes::Int64Type;
    use ::parquet::arrow::ArrowWriter;
    use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use ::parquet::file::properties::WriterProperties;
    use std::sync::Arc;

    fn file(column: ArrayRef) -> File {
        packed(column, Compression::UNCOMPRESSED)
    }

    fn packed(column: ArrayRef, compression: Compression) -> File {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..column.len() as i32));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("text", column, true)])
            .expect("a batch");
        let mut file = tempfile::tempfile().expect("a file");
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).expect("a writer");
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
    fn every_compression() {
        let texts: Vec<_> = (0..100).map(|n| format!("the same words again and again {}", n % 7)).collect();
        let column: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        for compression in [
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let got = read(packed(column.clone(), compression), "text").unwrap();
            assert!(got[100..].iter().map(|(_, text)| text).eq(&texts), "{compression}");
        }
    }

    #[test]
    fn bytes_are_text_where_they_are_utf8() {
        let bytes = |last: &'static [u8]| -> ArrayRef {
            Arc::new(BinaryArray::from_opt_vec(vec![Some("é".as_bytes()), None, Some(last)]))
        };
        let got: Vec<_> =
            read(file(bytes(b"a")), "text").unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(got, ["é", "", "a", "é", "", "a"]);
        let error = read(file(bytes(b"a\xFF")), "text").unwrap_err();
        assert_eq!(error, "a.parquet:3: column \"text\": invalid UTF-8 at byte 1 of the value");
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

    fn cells(columns: Vec<(&str, ArrayRef)>, others: &[&str]) -> Result<Vec<Vec<RecordCell>>, String> {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .expect("a batch");
        let mut file = tempfile::tempfile().expect("a file");
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let columns = Columns {
            text: "text".into(),
            others: others.iter().map(|name| (*name).into()).collect(),
            chats: false,
        };
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
        let first = [
            RecordCell::Text("g".into()),
            RecordCell::Integer(-1),
            RecordCell::Number(0.5),
            RecordCell::Bool(true),
        ];
        assert_eq!(got[0], first);
        assert_eq!(
            got[1],
            [RecordCell::Missing, RecordCell::Missing, RecordCell::Number(2.0), RecordCell::Bool(false)]
        );
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
