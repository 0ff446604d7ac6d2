//! One reader per file format, all giving rows of text.

mod csv;
mod jsonl;
mod parquet;
mod txt;

use super::error::TextError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The data formats, by file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `.txt`: the whole file is one document.
    Txt,
    /// `.jsonl`: one JSON object a line.
    Jsonl,
    /// `.csv`: RFC 4180 with a header row.
    Csv,
    /// `.parquet`: a string column.
    Parquet,
}

/// The known extensions, for error lines.
const KNOWN: &str = ".txt, .jsonl, .csv, .parquet";

/// The text column when the user names none.
const DEFAULT_COLUMN: &str = "text";

/// One row of text and where it stands, like `stories.jsonl:12`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) place: String,
    pub(super) text: String,
}

/// A streaming reader of one input.
pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, TextError>> + Send>;

impl Format {
    /// The format of a file, by its extension.
    ///
    /// # Errors
    /// [`TextError::UnknownExtension`].
    pub fn of(path: &Path) -> Result<Self, TextError> {
        let found = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match found.as_str() {
            "txt" => Ok(Self::Txt),
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(TextError::UnknownExtension { path: path.into(), found, known: KNOWN }),
        }
    }
}

/// Opens a file and checks what can be checked without reading it whole: its columns and its first row.
pub(super) fn open_file(path: &Path, format: Format, column: Option<&str>) -> Result<Rows, TextError> {
    let name = path.display().to_string();
    if !path.exists() {
        return Err(TextError::NoSuchFile(path.into()));
    }
    if path.is_dir() {
        return Err(TextError::IsFolder(path.into()));
    }
    let file = File::open(path).map_err(|source| TextError::io(&name, source))?;
    match format {
        Format::Parquet => parquet::rows(name, file, column.unwrap_or(DEFAULT_COLUMN)),
        _ => open_stream(name, file, format, column),
    }
}

/// Opens a stream that cannot seek.
pub(super) fn open_stream(
    name: String,
    input: impl Read + Send + 'static,
    format: Format,
    column: Option<&str>,
) -> Result<Rows, TextError> {
    let column = column.unwrap_or(DEFAULT_COLUMN).to_owned();
    match format {
        Format::Txt => Ok(txt::rows(name, input)),
        Format::Jsonl => jsonl::rows(name, BufReader::new(input), column),
        Format::Csv => csv::rows(name, BufReader::with_capacity(1 << 16, input), column),
        Format::Parquet => Err(TextError::ParquetFromStdin),
    }
}

/// Puts a row that was read early, to check the file, back in front of the rest.
fn check_first<R>(mut rows: R) -> Result<Rows, TextError>
where
    R: Iterator<Item = Result<Row, TextError>> + Send + 'static,
{
    let first = rows.next().transpose()?;
    Ok(Box::new(first.map(Ok).into_iter().chain(rows)))
}

/// The UTF-8 byte order mark, dropped from the start of text files.
const BOM: &[u8] = b"\xEF\xBB\xBF";
