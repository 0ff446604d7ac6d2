//! Records of CSV (RFC 4180) and TSV (text/tab-separated-values, where quotes mean nothing), each with the line it
//! starts on.
//!
//! Lines end in LF, CR LF or CR. What would change a text without a word is an error: a quote that never closes, text
//! behind a closing quote (quotes inside a field that were not doubled), a NUL byte.

use std::io::{self, BufRead};

/// How fields are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Commas, and quotes around what needs them.
    Csv,
    /// Tabs alone, so that a lone quote in a sentence cannot swallow the lines after it.
    Tsv,
}

/// One record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The line it starts on, from 1.
    pub(super) line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Why there is no next record.
#[derive(Debug)]
pub(super) enum Bad {
    Io(io::Error),
    /// A mistake, and its line.
    Syntax(u64, &'static str),
    /// A record of more bytes than allowed, and its line.
    TooLarge(u64),
}

/// Where in a field the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first half of a doubled quote.
    Closed,
}

/// Reads records; blank lines are none.
pub(super) struct Records<R> {
    input: R,
    limit: u64,
    parser: Parser,
}

/// Takes a file byte by byte.
struct Parser {
    dialect: Dialect,
    /// The line of the next byte.
    line: u64,
    after_cr: bool,
    state: State,
    /// The line of the quote that the field began with.
    opened: u64,
}

impl Record {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field's bytes.
    pub(super) fn field(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.field(index))
    }

    fn clear(&mut self) {
        self.line = 0;
        self.bytes.clear();
        self.ends.clear();
    }

    /// Whether a byte of it was read.
    fn begun(&self) -> bool {
        self.line > 0
    }

    fn end_field(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(input: R, dialect: Dialect, limit: u64) -> Self {
        let parser = Parser { dialect, line: 1, after_cr: false, state: State::Start, opened: 0 };
        Self { input, limit, parser }
    }

    /// Reads the next record; false at the end.
    pub(super) fn read(&mut self, record: &mut Record) -> Result<bool, Bad> {
        record.clear();
        self.parser.state = State::Start;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Bad::Io(error)),
            };
            if chunk.is_empty() {
                return self.parser.end(record);
            }
            let (mut used, mut done) = (0, false);
            while used < chunk.len() && !done {
                done = self.parser.feed(chunk[used], record)?;
                used += 1;
            }
            self.input.consume(used);
            if record.bytes.len() as u64 > self.limit {
                return Err(Bad::TooLarge(record.line));
            }
            if done {
                return Ok(true);
            }
        }
    }
}

impl Parser {
    /// Takes a byte; true when it ends the record.
    fn feed(&mut self, byte: u8, record: &mut Record) -> Result<bool, Bad> {
        let second = byte == b'\n' && self.after_cr;
        self.after_cr = byte == b'\r';
        let ends_line = matches!(byte, b'\n' | b'\r');
        if byte == 0 {
            return Err(Bad::Syntax(self.line, "a NUL byte: is this UTF-16, or damaged?"));
        }
        if self.state == State::Quoted {
            self.line += u64::from(ends_line && !second);
            if byte == b'"' {
                self.state = State::Closed;
            } else {
                record.bytes.push(byte);
            }
            return Ok(false);
        }
        if second {
            return Ok(false);
        }
        if ends_line {
            self.line += 1;
            if record.begun() {
                record.end_field();
            }
            return Ok(record.begun());
        }
        if !record.begun() {
            record.line = self.line;
        }
        let quotes = self.dialect == Dialect::Csv && byte == b'"';
        let delimiter = if self.dialect == Dialect::Csv { b',' } else { b'\t' };
        match self.state {
            _ if byte == delimiter => {
                record.end_field();
                self.state = State::Start;
            }
            State::Start if quotes => (self.state, self.opened) = (State::Quoted, self.line),
            State::Closed if quotes => {
                record.bytes.push(byte);
                self.state = State::Quoted;
            }
            State::Closed => {
                let message = "text behind a closing quote; a quote inside a quoted field is written twice";
                return Err(Bad::Syntax(self.line, message));
            }
            _ => {
                record.bytes.push(byte);
                self.state = State::Plain;
            }
        }
        Ok(false)
    }

    /// The last record may have no line end.
    fn end(&self, record: &mut Record) -> Result<bool, Bad> {
        if self.state == State::Quoted {
            return Err(Bad::Syntax(self.opened, "the quote that opens here never closes"));
        }
        if record.begun() {
            record.end_field();
        }
        Ok(record.begun())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and fields, or the line of a mistake and what it is.
    type Got = Result<Vec<(u64, Vec<String>)>, (u64, &'static str)>;

    fn read(text: &str, dialect: Dialect) -> Got {
        let mut records = Records::new(text.as_bytes(), dialect, 100);
        let (mut record, mut all) = (Record::default(), Vec::new());
        loop {
            match records.read(&mut record) {
                Ok(true) => {
                    let fields = record.fields().map(|field| String::from_utf8_lossy(field).into_owned());
                    all.push((record.line, fields.collect()));
                }
                Ok(false) => return Ok(all),
                Err(Bad::Syntax(line, message)) => return Err((line, message)),
                Err(Bad::TooLarge(line)) => return Err((line, "too large")),
                Err(Bad::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn every_line_end_alike() {
        let lines = ["a,b", "", "\"c\nc\",d", "e,"];
        for end in ["\n", "\r\n", "\r"] {
            for last in [end, ""] {
                let text = lines.join(end) + last;
                let got = read(&text, Dialect::Csv).unwrap();
                let fields = |line: u64, a: &str, b: &str| (line, vec![a.to_owned(), b.to_owned()]);
                assert_eq!(
                    got,
                    [fields(1, "a", "b"), fields(3, "c\nc", "d"), fields(5, "e", "")],
                    "{text:?}"
                );
            }
        }
        assert_eq!(read("\"a\r\nb\r\"\nc", Dialect::Csv).unwrap()[1].0, 4);
    }

    #[test]
    fn quotes() {
        let one = |text: &str| read(text, Dialect::Csv).map(|all| all[0].1.clone());
        assert_eq!(one("\"\"").unwrap(), [""]);
        assert_eq!(one("\"a \"\"b\"\"\"").unwrap(), ["a \"b\""]);
        assert_eq!(one("5\" nail, \"a\"").unwrap(), ["5\" nail", " \"a\""]);
        assert_eq!(read("a\n\"b", Dialect::Csv).unwrap_err(), (2, "the quote that opens here never closes"));
        assert_eq!(read("a\n\n\"b\"\"\n\n", Dialect::Csv).unwrap_err().0, 3);
        let (line, message) = read("a\n\"he said \"hello\"\"", Dialect::Csv).unwrap_err();
        assert!(line == 2 && message.starts_with("text behind a closing quote"), "{message}");
        assert_eq!(read("\"a\tb\"", Dialect::Tsv).unwrap(), [(1, vec!["\"a".into(), "b\"".into()])]);
        assert_eq!(read("a\nb\0", Dialect::Tsv).unwrap_err().0, 2);
        assert_eq!(read(&format!("a\n\"{}", "\n".repeat(5000)), Dialect::Csv).unwrap_err(), (2, "too large"));
    }
}
