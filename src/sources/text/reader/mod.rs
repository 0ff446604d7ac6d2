//! One reader per file format, all giving rows of text, with further columns where they are asked for.

mod arrow;
pub(crate) mod arrow_sizes;
mod cell;
mod columnar;
mod compression;
mod csv;
mod folder;
mod json;
mod jsonl;
mod object;
mod parquet;
mod records;
mod start;
mod txt;

use self::compression::Compression;
use super::error::TextError;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub(crate) use cell::RecordCell;
pub use folder::data_files;

/// The data formats, by file extension. Of the text formats there may be a `.gz` or `.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// `.txt`: the whole file is one document.
    Txt,
    /// `.jsonl`, `.ndjson`: one JSON object a line.
    Jsonl,
    /// `.json`: a list of objects, or of strings, which is held whole; or, as is the habit of many, one object a line.
    Json,
    /// `.csv`: RFC 4180 with a header row.
    Csv,
    /// `.tsv`: a header row, fields separated by tabs. Quotes are characters like any other.
    Tsv,
    /// `.parquet`: a column of strings, or of bytes that are UTF-8.
    Parquet,
    /// `.arrow`, `.feather`: Arrow IPC, as a stream (the shards of `datasets`) or a file.
    Arrow,
}

/// The known extensions, for error lines.
const KNOWN: &str = ".txt, .jsonl, .ndjson, .json, .csv, .tsv, each also with .gz or .zst behind it, .parquet, .arrow, .feather";

/// The text column when the user names none.
pub(crate) const DEFAULT_COLUMN: &str = "text";

/// The column of chats when the user names none and there is no text.
const CHAT_COLUMN: &str = "messages";

/// One row of text and where it stands, like `stories.jsonl:12`.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) place: String,
    pub(crate) text: String,
    /// The text is a chat, as JSON: an object with `messages` and perhaps `tools`.
    pub(crate) chat: bool,
    /// Values of the other columns asked for, in their order.
    pub(crate) cells: Vec<RecordCell>,
}

/// The columns to read.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) text: String,
    pub(crate) others: Vec<String>,
    /// A list of messages may stand in place of a text.
    pub(crate) chats: bool,
}

impl Columns {
    /// The text alone, or a chat.
    pub(super) fn text(column: Option<&str>) -> Self {
        Self { text: column.unwrap_or(DEFAULT_COLUMN).into(), others: Vec::new(), chats: true }
    }

    /// Every name, the text's first.
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.text).chain(&self.others)
    }

    /// The text's column where these names are present: without `text`, `messages`, where chats may be.
    fn text_among(&self, mut present: impl FnMut(&str) -> bool) -> &str {
        let chat =
            self.chats && self.text == DEFAULT_COLUMN && !present(DEFAULT_COLUMN) && present(CHAT_COLUMN);
        if chat { CHAT_COLUMN } else { &self.text }
    }
}

/// A streaming reader of one input.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<Row, TextError>> + Send>;

/// The bytes of one input.
struct Input {
    name: String,
    bytes: Box<dyn BufRead + Send>,
    /// Most bytes of one document.
    limit: u64,
}

/// Most bytes of a document that was compressed: a few kilobytes can become any number of them.
const INFLATED: u64 = 1 << 30;

impl Format {
    /// The format of a file, by its extension.
    ///
    /// # Errors
    /// [`TextError::UnknownExtension`].
    pub fn of(path: &Path) -> Result<Self, TextError> {
        let (inner, compression) = Compression::of(path);
        let extension = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let format = match extension(&inner).as_str() {
            "txt" => Self::Txt,
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "parquet" if compression.is_none() => Self::Parquet,
            "arrow" | "feather" if compression.is_none() => Self::Arrow,
            _ => {
                let found = extension(path);
                return Err(TextError::UnknownExtension { path: path.into(), found, known: KNOWN });
            }
        };
        Ok(format)
    }
}

/// Opens a file and checks what can be checked without reading it whole: its columns and its first row.
pub(crate) fn open_file(path: &Path, format: Format, columns: &Columns) -> Result<Rows, TextError> {
    let name = path.display().to_string();
    let file = open(path)?;
    match (format, Compression::of(path).1) {
        (Format::Parquet, _) => parquet::rows(name, file, columns),
        (Format::Arrow, _) => arrow::rows(name, file, columns),
        (_, None) => open_stream(name, file, format, columns),
        (_, Some(compression)) => {
            let bytes = compression.inflate(file).map_err(|source| TextError::io(&name, source))?;
            open_input(Input { name, bytes: buffered(bytes), limit: INFLATED }, format, columns)
        }
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
    open_input(Input { name, bytes: buffered(input), limit: u64::MAX }, format, columns)
}

fn open_input(mut input: Input, format: Format, columns: &Columns) -> Result<Rows, TextError> {
    let Input { name, bytes, .. } = &mut input;
    match format {
        Format::Parquet | Format::Arrow => return Err(TextError::CannotStream { name: input.name }),
        // One document, and the one format whose reader waits until it is asked for.
        Format::Txt => {}
        _ => start::check(name, bytes.fill_buf().map_err(|source| TextError::io(&*name, source))?)?,
    }
    match format {
        Format::Txt => match columns.others.first() {
            Some(column) => {
                Err(TextError::NoColumn { place: input.name, column: column.clone(), present: vec![] })
            }
            None => Ok(txt::rows(input)),
        },
        Format::Jsonl => jsonl::rows(input, columns),
        Format::Json => json::rows(input, columns),
        Format::Csv => csv::rows(input, columns, records::Dialect::Csv),
        _ => csv::rows(input, columns, records::Dialect::Tsv),
    }
}

fn buffered(input: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(1 << 16, input))
}

impl Input {
    /// All of it, as text without a byte order mark.
    fn read_whole(mut self) -> Result<String, TextError> {
        let mut bytes = Vec::new();
        let io = |source| TextError::io(&self.name, source);
        (&mut self.bytes).take(self.limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > self.limit {
            return Err(TextError::TooLarge { place: self.name, limit: self.limit });
        }
        start::check(&self.name, &bytes)?;
        let bom = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
        bytes.drain(..bom);
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
            let place = format!("{}:{line}", self.name);
            TextError::InvalidUtf8 { place, offset: (bom + at) as u64, within: "file" }
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a compressed file may become: a few kilobytes of it could be any number.
    #[test]
    fn a_document_has_a_limit() {
        let long = "a".repeat(70_000);
        let contents = [
            (Format::Txt, long.clone(), "a"),
            (Format::Json, format!("[\"{long}\"]"), "a"),
            (Format::Jsonl, format!("{{\"text\":\"b\"}}\n{{\"text\":\"{long}\"}}\n"), "a:2"),
            (Format::Csv, format!("text\nb\n\"{}", "\n".repeat(70_000)), "a:3"),
            (Format::Tsv, format!("text\nb\n{long}\n"), "a:3"),
        ];
        for (format, content, place) in contents {
            let bytes = buffered(std::io::Cursor::new(content.into_bytes()));
            let input = Input { name: "a".into(), bytes, limit: 10_000 };
            let rows = open_input(input, format, &Columns::text(None));
            let error = rows.and_then(|mut rows| rows.find_map(Result::err).map_or(Ok(()), Err)).unwrap_err();
            let error = error.to_string();
            assert_eq!(error, format!("{place}: a document of more than 10000 bytes"), "{format:?}");
        }
    }

    /// An input of these bytes.
    pub(super) fn input(name: &str, bytes: &'static [u8]) -> Input {
        Input { name: name.into(), bytes: Box::new(bytes), limit: 1 << 20 }
    }
}
