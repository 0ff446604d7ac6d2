//! One reader per file format, all giving rows of text, with further columns where they are asked for.

mod cell;
mod csv;
mod json;
mod jsonl;
mod parquet;
mod txt;

use super::error::TextError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub(crate) use cell::Cell;

/// The data formats, by file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `.txt`: the whole file is one document.
    Txt,
    /// `.jsonl`: one JSON object a line.
    Jsonl,
    /// `.json`: a list of objects, or of strings. It is held whole.
    Json,
    /// `.csv`: RFC 4180 with a header row.
    Csv,
    /// `.tsv`: a header row, fields separated by tabs. Quotes are characters like any other.
    Tsv,
    /// `.parquet`: a string column.
    Parquet,
}

/// The known extensions, for error lines.
const KNOWN: &str = ".txt, .jsonl, .json, .csv, .tsv, .parquet";

/// The text column when the user names none.
pub(crate) const DEFAULT_COLUMN: &str = "text";

/// One row of text and where it stands, like `stories.jsonl:12`.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) place: String,
    pub(crate) text: String,
    /// Values of the other columns asked for, in their order.
    pub(crate) cells: Vec<Cell>,
}

/// The columns to read.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) text: String,
    pub(crate) others: Vec<String>,
}

impl Columns {
    /// The text alone.
    pub(super) fn text(column: Option<&str>) -> Self {
        Self { text: column.unwrap_or(DEFAULT_COLUMN).into(), others: Vec::new() }
    }

    /// Every name, the text's first.
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.text).chain(&self.others)
    }
}

/// A streaming reader of one input.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<Row, TextError>> + Send>;

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
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(TextError::UnknownExtension { path: path.into(), found, known: KNOWN }),
        }
    }
}

/// Opens a file and checks what can be checked without reading it whole: its columns and its first row.
pub(crate) fn open_file(path: &Path, format: Format, columns: &Columns) -> Result<Rows, TextError> {
    let name = path.display().to_string();
    let file = open(path)?;
    match format {
        Format::Parquet => parquet::rows(name, file, columns),
        _ => open_stream(name, file, format, columns),
    }
}

/// The file itself, where it is one.
pub(crate) fn open(path: &Path) -> Result<File, TextError> {
    if !path.exists() {
        return Err(TextError::NoSuchFile(path.into()));
    }
    if path.is_dir() {
        return Err(TextError::IsFolder(path.into()));
    }
    File::open(path).map_err(|source| TextError::io(path.display().to_string(), source))
}

/// Opens a stream that cannot seek.
pub(super) fn open_stream(
    name: String,
    input: impl Read + Send + 'static,
    format: Format,
    columns: &Columns,
) -> Result<Rows, TextError> {
    let buffered = |input| BufReader::with_capacity(1 << 16, input);
    match format {
        Format::Txt => match columns.others.first() {
            Some(column) => Err(TextError::NoColumn { place: name, column: column.clone(), present: vec![] }),
            None => Ok(txt::rows(name, input)),
        },
        Format::Jsonl => jsonl::rows(name, BufReader::new(input), columns),
        Format::Json => json::rows(&name, input, columns),
        Format::Csv => csv::rows(name, buffered(input), columns, csv::Dialect::Csv),
        Format::Tsv => csv::rows(name, buffered(input), columns, csv::Dialect::Tsv),
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
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";
