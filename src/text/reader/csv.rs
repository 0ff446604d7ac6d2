//! `.csv`: RFC 4180 with a header row. Quoted fields may hold line breaks.

use super::{Row, Rows, TextError, check_first};
use ::csv::{ByteRecord, Error, ErrorKind, Reader, ReaderBuilder};
use std::io::{BufRead, Read};

struct Csv<R> {
    name: String,
    reader: Reader<R>,
    /// Whether lines end in CR LF.
    crlf: bool,
    column: String,
    /// Fields of the header.
    width: usize,
    /// The text column's place.
    index: usize,
    record: ByteRecord,
}

/// The rows of a CSV file, named by the line their record starts on. Blank lines are no rows.
pub(super) fn rows(
    name: String,
    mut input: impl BufRead + Send + 'static,
    column: String,
) -> Result<Rows, TextError> {
    let start = input.fill_buf().map_err(|source| TextError::io(&name, source))?;
    let newline = start.iter().position(|byte| *byte == b'\n');
    let crlf = newline.is_some_and(|at| start[..at].ends_with(b"\r"));
    // The line end behind the last record, where it is missing, so that lines are counted alike to the end.
    let mut reader =
        ReaderBuilder::new().flexible(true).from_reader(input.chain(if crlf { &b"\r\n"[..] } else { b"\n" }));
    let header = reader.byte_headers().map_err(|error| csv_error(&name, error))?;
    let present: Vec<_> = header.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    let Some(index) = present.iter().position(|field| *field == column) else {
        return Err(TextError::NoColumn { place: name, column, present });
    };
    check_first(Csv { name, reader, crlf, column, width: present.len(), index, record: ByteRecord::new() })
}

impl<R: Read> Iterator for Csv<R> {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Some(self.row()),
            Ok(false) => None,
            Err(error) => Some(Err(csv_error(&self.name, error))),
        }
    }
}

impl<R: Read> Csv<R> {
    fn row(&self) -> Result<Row, TextError> {
        let place = format!("{}:{}", self.name, self.line());
        let len = self.record.len();
        let Some(field) = self.record.get(self.index).filter(|_| len == self.width) else {
            let message = format!("the record has {len} fields, the header {}", self.width);
            return Err(TextError::Csv { place, message });
        };
        match std::str::from_utf8(field) {
            Ok(text) => Ok(Row { place, text: text.to_owned() }),
            Err(error) => Err(TextError::InvalidUtf8 {
                place: format!("{place}: column {:?}", self.column),
                offset: error.valid_up_to() as u64,
                within: "field",
            }),
        }
    }

    /// The line the record starts on, counted back from where the reader stands: it has read the record's own line
    /// feeds and the one that ends it, unless that one belongs to CR LF (it stops after CR).
    fn line(&self) -> u64 {
        let lines = |field: &[u8]| field.split(|byte| *byte == b'\n').count();
        let inside: usize = self.record.iter().map(|field| lines(field) - 1).sum();
        let ending = u64::from(!self.crlf);
        self.reader.position().line().saturating_sub(inside as u64 + ending)
    }
}

fn csv_error(name: &str, error: Error) -> TextError {
    match error.into_kind() {
        ErrorKind::Io(source) => TextError::io(name, source),
        other => TextError::Csv { place: name.into(), message: format!("{other:?}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<Vec<(String, String)>, String> {
        let rows = rows("a.csv".into(), bytes, "text".into()).map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| (row.place, row.text)).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn quotes_newlines_and_bom() {
        let crlf = b"\xEF\xBB\xBFtext,n\r\n\"a \"\"b\"\",\r\nc\",1\r\n,2\r\n\r\nd,3";
        let lf = b"text,n\n\"a \"\"b\"\",\r\nc\",1\n,2\n\nd,3\n";
        let expected = [("a.csv:2", "a \"b\",\r\nc"), ("a.csv:4", ""), ("a.csv:6", "d")];
        let expected = expected.map(|(place, text)| (place.to_owned(), text.to_owned()));
        assert_eq!(read(crlf).unwrap(), expected);
        assert_eq!(read(lf).unwrap(), expected);
    }

    #[test]
    fn bad_records_are_named() {
        let cases: [(&'static [u8], &str); 4] = [
            (
                b"Text,n\na,1",
                "a.csv: no column \"text\" (did you mean \"Text\"?), columns here: \"Text\", \"n\"",
            ),
            (b"", "a.csv: no column \"text\", columns here: none"),
            (b"text,n\na,1\nb", "a.csv:3: bad csv: the record has 1 fields, the header 2"),
            (b"text\na\nb\xFF", "a.csv:3: column \"text\": invalid UTF-8 at byte 1 of the field"),
        ];
        for (bytes, message) in cases {
            assert_eq!(read(bytes).unwrap_err(), message);
        }
    }
}
