//! Documents, streamed from data files in reading order.

use super::error::TextError;
use super::reader::{Columns, Format, Row, Rows, data_files, open_file, open_stream};
use crate::sources::chat::{Chats, Turn};
use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One text: the unit of splitting, of shuffling and of every confidence interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Number in reading order, from 0 across all inputs. Empty documents have one too.
    pub id: u64,
    /// Where it came from: file and line (`stories.jsonl:12`), row for Parquet, file alone for `.txt`.
    pub origin: String,
    /// The text.
    pub text: String,
    /// Of a chat: where the contents of its messages are in the text.
    pub turns: Option<Vec<Turn>>,
}

impl Document {
    /// Holds the place of another.
    pub(super) fn empty() -> Self {
        Self { id: 0, origin: String::new(), text: String::new(), turns: None }
    }
}

/// A streaming iterator over the documents of several inputs.
///
/// It ends after the first error. A corpus without any document, or with empty ones only, ends in an error.
pub struct Corpus {
    inputs: VecDeque<Input>,
    current: Option<Rows>,
    columns: Columns,
    chats: Option<Arc<Chats>>,
    names: String,
    documents: u64,
    skipped_empty: u64,
    finished: bool,
}

struct Input {
    path: PathBuf,
    format: Format,
    /// Stdin is opened once, to check it. Files are opened again when their turn comes, so that a thousand
    /// inputs do not need a thousand open files.
    opened: Option<Rows>,
}

impl Corpus {
    /// Checks every input (there, readable, known format, first row well formed, text column present) and reads
    /// nothing else.
    ///
    /// `-` is stdin, one plain text unless `stdin_format` says otherwise. `text_column` is `text` by default and
    /// is not used by `.txt`. A folder is its shards, by name: see [`data_files`].
    ///
    /// # Errors
    /// The first problem found, by file and line.
    pub fn open(
        paths: &[PathBuf],
        text_column: Option<&str>,
        stdin_format: Option<Format>,
    ) -> Result<Self, TextError> {
        Self::open_with(paths, text_column, stdin_format, std::io::stdin)
    }

    fn open_with<R: Read + Send + 'static>(
        paths: &[PathBuf],
        text_column: Option<&str>,
        stdin_format: Option<Format>,
        stdin: impl Fn() -> R,
    ) -> Result<Self, TextError> {
        let columns = Columns::text(text_column);
        if paths.is_empty() {
            return Err(TextError::NoInput);
        }
        if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
            return Err(TextError::StdinTwice);
        }
        let paths = &data_files(paths)?[..];
        // Stdin last: a mistyped file name should not wait for somebody to type a text.
        let mut inputs = VecDeque::with_capacity(paths.len());
        for path in paths {
            let format = if is_stdin(path) { stdin_format.unwrap_or(Format::Txt) } else { Format::of(path)? };
            if !is_stdin(path) {
                drop(open_file(path, format, &columns)?);
            }
            inputs.push_back(Input { path: path.clone(), format, opened: None });
        }
        if let Some(input) = inputs.iter_mut().find(|input| is_stdin(&input.path)) {
            input.opened = Some(open_stream("stdin".into(), stdin(), input.format, &columns)?);
        }
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        Ok(Self {
            inputs,
            current: None,
            columns,
            chats: None,
            names: names.join(", "),
            documents: 0,
            skipped_empty: 0,
            finished: false,
        })
    }

    /// With what makes texts of chats.
    #[must_use]
    pub fn with_chats(self, chats: Option<Arc<Chats>>) -> Self {
        Self { chats, ..self }
    }

    /// The document that a row is.
    fn document(&mut self, row: Row) -> Result<Document, TextError> {
        let Row { place: origin, text, chat, .. } = row;
        let (text, turns) = match &self.chats {
            _ if !chat => (text, None),
            None => return Err(TextError::NoTemplate { place: origin }),
            Some(chats) => {
                let rendered = chats.render(&text);
                let rendered =
                    rendered.map_err(|source| TextError::Chat { place: origin.clone(), source })?;
                (rendered.text, Some(rendered.turns))
            }
        };
        let id = self.documents;
        self.documents += 1;
        self.skipped_empty += u64::from(text.is_empty());
        Ok(Document { id, origin, text, turns })
    }

    /// Documents without text met so far. They keep their id and have no token of their own.
    pub fn skipped_empty(&self) -> u64 {
        self.skipped_empty
    }

    /// The inputs as they were given, comma separated, for messages.
    pub fn names(&self) -> &str {
        &self.names
    }

    /// The next row of the current input, or of the first one after it that has rows.
    fn next_row(&mut self) -> Option<Result<Row, TextError>> {
        loop {
            if let Some(row) = self.current.as_mut().and_then(Iterator::next) {
                return Some(row);
            }
            let input = self.inputs.pop_front()?;
            match input.opened.map_or_else(|| open_file(&input.path, input.format, &self.columns), Ok) {
                Ok(rows) => self.current = Some(rows),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// What a corpus without text ends in.
    fn verdict(&self) -> Option<TextError> {
        let inputs = self.names.clone();
        match self.documents {
            0 => Some(TextError::NoDocuments { inputs }),
            documents if documents == self.skipped_empty => Some(TextError::AllEmpty { documents, inputs }),
            _ => None,
        }
    }
}

impl Iterator for Corpus {
    type Item = Result<Document, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        match self.next_row().map(|row| row.and_then(|row| self.document(row))) {
            Some(Ok(document)) => Some(Ok(document)),
            Some(Err(error)) => {
                self.finished = true;
                Some(Err(error))
            }
            None => {
                self.finished = true;
                self.verdict().map(Err)
            }
        }
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, bytes).expect("a file is written");
        path
    }

    fn message<T>(result: Result<T, TextError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn ids_count_over_all_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [
            write(dir.path(), "a.TXT", b"one\ndocument"),
            write(dir.path(), "b.jsonl", b"{\"text\":\"x\"}\n{\"text\":\"\"}\n"),
            PathBuf::from("-"),
            write(dir.path(), "c.csv", b"text\ny\n"),
        ];
        let stdin = || &b"from stdin"[..];
        let mut corpus = Corpus::open_with(&paths, None, None, stdin).unwrap();
        let documents: Vec<_> = corpus.by_ref().map(Result::unwrap).collect();
        let texts: Vec<_> = documents.iter().map(|document| document.text.as_str()).collect();
        assert_eq!(texts, ["one\ndocument", "x", "", "from stdin", "y"]);
        assert!(documents.iter().map(|document| document.id).eq(0..5));
        assert_eq!(documents[1].origin, format!("{}:1", paths[1].display()));
        assert_eq!(documents[3].origin, "stdin");
        assert_eq!(corpus.skipped_empty(), 1);
    }

    #[test]
    fn every_file_is_checked_before_the_first_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let good = write(dir.path(), "a.txt", b"good");
        let open = |path: PathBuf| message(Corpus::open(&[good.clone(), path], Some("body"), None));
        let gone = dir.path().join("gone.csv");
        assert_eq!(open(gone.clone()), format!("{}: no such file", gone.display()));
        let odd = write(dir.path(), "a.docx", b"");
        let expected =
            "unknown extension \"docx\", known are .txt, .jsonl, .ndjson, .json, .csv, .tsv, each also with ";
        assert!(open(odd.clone()).starts_with(&format!("{}: {expected}", odd.display())));
        let folder = dir.path().join("f.txt");
        fs::create_dir(&folder).unwrap();
        assert_eq!(open(folder.clone()), format!("{}: is a folder without a data file", folder.display()));
        let csv = write(dir.path(), "b.csv", b"bodi,n\nx,1\n");
        assert!(
            open(csv).ends_with("no column \"body\" (did you mean \"bodi\"?), columns here: \"bodi\", \"n\"")
        );
        assert_eq!(message(Corpus::open(&[], None, None)), "no data file given");
    }

    #[test]
    fn stdin_is_read_once_and_cannot_be_parquet() {
        let stdin = || &b"{\"text\":\"a\"}\n{\"text\":\"b\"}"[..];
        let dash = PathBuf::from("-");
        let corpus =
            Corpus::open_with(std::slice::from_ref(&dash), None, Some(Format::Jsonl), stdin).unwrap();
        let origins: Vec<_> = corpus.map(|document| document.unwrap().origin).collect();
        assert_eq!(origins, ["stdin:1", "stdin:2"]);
        let twice = [dash.clone(), dash.clone()];
        assert_eq!(message(Corpus::open_with(&twice, None, None, stdin)), "stdin (-) can be read only once");
        let parquet = Corpus::open_with(&[dash], None, Some(Format::Parquet), stdin);
        assert_eq!(message(parquet), "stdin: Parquet and Arrow cannot be read from a stream, give a file");
    }

    #[test]
    fn a_corpus_without_text_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let last = |bytes: &[u8]| {
            let path = write(dir.path(), "a.jsonl", bytes);
            let corpus = Corpus::open(&[path], None, None).unwrap();
            message(corpus.last().expect("an item"))
        };
        assert!(last(b"").starts_with("no document in "));
        assert!(last(b"{\"text\":\"\"}\n{\"text\":\"\"}").starts_with("all 2 documents are empty in "));
    }

    #[test]
    fn an_error_ends_the_corpus() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "a.jsonl", b"{\"text\":\"x\"}\n{\n{\"text\":\"y\"}");
        let mut corpus = Corpus::open(&[path], None, None).unwrap();
        assert_eq!(corpus.next().unwrap().unwrap().text, "x");
        let error = corpus.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("a.jsonl:2: not JSON"), "{error}");
        assert!(corpus.next().is_none());
    }
}
