//! `.arrow` and `.feather`: Arrow IPC, as a stream (what `datasets` writes) or a file.

use super::columnar::{self, Batches, Chosen, attempt};
use super::{Columns, Rows, TextError, arrow_sizes};
use ::arrow::error::ArrowError;
use ::arrow::ipc::reader::{FileReader, StreamReader};
use std::fs::File;
use std::io::{BufReader, Read, Seek};

const FORMAT: &str = "arrow";

/// The rows of the columns asked for.
pub(super) fn rows(name: String, mut file: File, columns: &Columns) -> Result<Rows, TextError> {
    let mut start = Vec::new();
    let io = |source| TextError::io(&name, source);
    (&mut file).take(8).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let is_stream = !start.starts_with(b"ARROW1");
    let open = || -> Result<_, ArrowError> {
        arrow_sizes::check(&mut file, is_stream)?;
        file.rewind()?;
        let file = BufReader::with_capacity(1 << 16, file);
        if !is_stream {
            let reader = FileReader::try_new(file, None)?;
            return Ok((reader.schema(), Box::new(reader) as Batches));
        }
        check_stream(&start, size)?;
        let reader = StreamReader::try_new(file, None)?;
        Ok((reader.schema(), Box::new(reader) as Batches))
    };
    let (schema, batches) = attempt(&name, FORMAT, open)?;
    let chosen = Chosen::of(&name, schema.fields(), columns)?;
    columnar::rows(name, FORMAT, batches, chosen)
}

/// A stream begins with a marker and the length of its schema: the library makes room for any length.
fn check_stream(start: &[u8], size: u64) -> Result<(), ArrowError> {
    let length = match start {
        [0xFF, 0xFF, 0xFF, 0xFF, a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => return Err(ArrowError::ParseError("neither an Arrow IPC file nor a stream".into())),
    };
    if u64::from(length) + 8 > size {
        return Err(ArrowError::ParseError(format!("a schema of {length} bytes in a file of {size}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Format, RecordCell, Row, open_file};
    use super::*;
    use ::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringDictionaryBuilder, StringViewArray};
    use ::arrow::datatypes::Int8Type;
    use ::arrow::ipc::writer::{FileWriter, StreamWriter};
    use std::path::Path;
    use std::sync::Arc;

    fn batch(rows: i32) -> RecordBatch {
        let text = (0..rows).map(|n| (n != 2).then(|| format!("a text longer than a view holds, {n}")));
        let text: ArrayRef = Arc::new(text.collect::<StringViewArray>());
        let mut kind = StringDictionaryBuilder::<Int8Type>::new();
        (0..rows).for_each(|n| kind.append_value(if n % 2 == 0 { "even" } else { "odd" }));
        let kind: ArrayRef = Arc::new(kind.finish());
        let n: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows));
        let columns = [("kind", kind, false), ("text", text, true), ("n", n, false)];
        RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
    }

    fn write(path: &Path, stream: bool) {
        let (file, batch) = (File::create(path).expect("created"), batch(150));
        if stream {
            let mut writer = StreamWriter::try_new(file, &batch.schema()).expect("a writer");
            writer.write(&batch).and_then(|()| writer.write(&batch)).expect("written");
            writer.finish().expect("finished");
        } else {
            let mut writer = FileWriter::try_new(file, &batch.schema()).expect("a writer");
            writer.write(&batch).and_then(|()| writer.write(&batch)).expect("written");
            writer.finish().expect("finished");
        }
    }

    fn read(path: &Path, others: &[&str]) -> Result<Vec<Row>, String> {
        let others = others.iter().map(|name| (*name).to_owned()).collect();
        let columns = Columns { text: "text".into(), others, chats: false };
        let rows = open_file(path, Format::Arrow, &columns).map_err(|error| error.to_string())?;
        rows.map(|row| row.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn streams_and_files() {
        let dir = tempfile::tempdir().unwrap();
        for (name, stream) in [("data-00000-of-00001.arrow", true), ("a.feather", false)] {
            let path = dir.path().join(name);
            write(&path, stream);
            assert_eq!(Format::of(&path).unwrap(), Format::Arrow);
            let rows = read(&path, &["n", "kind"]).unwrap();
            assert_eq!((rows.len(), rows[2].text.as_str()), (300, ""), "{name}");
            assert_eq!(rows[151].text, "a text longer than a view holds, 1");
            assert_eq!(rows[151].cells, [RecordCell::Integer(1), RecordCell::Text("odd".into())]);
            assert_eq!(rows[151].place, format!("{}:152", path.display()));
        }
    }

    #[test]
    fn damaged_files_are_one_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.arrow");
        for stream in [true, false] {
            write(&path, stream);
            let whole = std::fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(7) {
                std::fs::write(&path, &whole[..at]).unwrap();
                // A stream may end after any batch.
                let cut = read(&path, &[]);
                assert!(cut.is_err() || (stream && cut.unwrap().len().is_multiple_of(150)), "{at}");
                let mut flipped = whole.clone();
                flipped[at] ^= 0x41;
                std::fs::write(&path, &flipped).unwrap();
                // No checksum: a flipped letter is a letter. It must not be a panic.
                if let Err(error) = read(&path, &[]) {
                    assert!(error.contains("a.arrow") && !error.contains('\n'), "{error}");
                }
            }
        }
        std::fs::write(&path, b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F").unwrap();
        let says = "bad arrow: Parser error: a schema of 2147483647 bytes in a file of 8";
        assert!(read(&path, &[]).unwrap_err().ends_with(says));
    }
}
