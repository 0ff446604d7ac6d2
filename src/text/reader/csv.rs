//! `.csv`: RFC 4180 with a header row, where quoted fields may hold line breaks. `.tsv`: as text/tab-separated-values
//! has it, where quotes mean nothing, so that a lone quote in a sentence cannot swallow the lines after it.

use super::{Cell, Columns, Row, Rows, TextError, check_first};
use ::csv::{ByteRecord, Error, ErrorKind, Reader, ReaderBuilder};
use std::io::{BufRead, Read};

struct Csv<R> {
    name: String,
    reader: Reader<R>,
    /// Whether lines end in CR LF.
    crlf: bool,
    /// Fields of the header.
    width: usize,
    /// Names and places of the columns asked for, the text first.
    columns: Vec<(String, usize)>,
    record: ByteRecord,
}

/// How fields are told apart.
#[derive(Clone, Copy)]
pub(super) enum Dialect {
    /// Commas, and quotes around what needs them.
    Csv,
    /// Tabs alone.
    Tsv,
}

/// The rows of a CSV or TSV file, named by the line their record starts on. Blank lines are no rows.
pub(super) fn rows(
    name: String,
    mut input: impl BufRead + Send + 'static,
    columns: &Columns,
    dialect: Dialect,
) -> Result<Rows, TextError> {
    let start = input.fill_buf().map_err(|source| TextError::io(&name, source))?;
    let newline = start.iter().position(|byte| *byte == b'\n');
    let crlf = newline.is_some_and(|at| start[..at].ends_with(b"\r"));
    // The line end behind the last record, where it is missing, so that lines are counted alike to the end.
    let mut builder = ReaderBuilder::new();
    if let Dialect::Tsv = dialect {
        builder.delimiter(b'\t').quoting(false);
    }
    let mut reader = builder.flexible(true).from_reader(input.chain(if crlf { &b"\r\n"[..] } else { b"\n" }));
    let header = reader.byte_headers().map_err(|error| csv_error(&name, error))?;
    let present: Vec<_> = header.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    let place = |column: &String| {
        let index = present.iter().position(|field| field == column);
        index.map(|index| (column.clone(), index)).ok_or_else(|| TextError::NoColumn {
            place: name.clone(),
            column: column.clone(),
            present: present.clone(),
        })
    };
    let columns = columns.names().map(place).collect::<Result<_, _>>()?;
    check_first(Csv { name, reader, crlf, width: present.len(), columns, record: ByteRecord::new() })
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
        if len != self.width {
            let message = format!("the record has {len} fields, the header {}", self.width);
            return Err(TextError::Csv { place, message });
        }
        let mut fields = self.columns.iter().map(|column| self.field(column, &place));
        let text = fields.next().transpose()?.unwrap_or_default();
        let cells = fields.map(|field| field.map(Cell::Text)).collect::<Result<_, _>>()?;
        Ok(Row { place, text, cells })
    }

    fn field(&self, (column, index): &(String, usize), place: &str) -> Result<String, TextError> {
        let field = self.record.get(*index).unwrap_or_default();
        std::str::from_utf8(field).map(str::to_owned).map_err(|error| TextError::InvalidUtf8 {
            place: format!("{place}: column {column:?}"),
            offset: error.valid_up_to() as u64,
            within: "field",
        })
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
        let rows = rows("a.csv".into(), bytes, &Columns::text(None), Dialect::Csv)
            .map_err(|error| error.to_string())?;
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

    #[test]
    fn tabs_without_quoting_and_other_columns() {
        let bytes = b"n\ttext\tlabel\r\n1\t\"a, b\t0\r\n2\t\tx\r\n";
        let columns = Columns { text: "text".into(), others: vec!["label".into(), "n".into()] };
        let rows = rows("a.tsv".into(), &bytes[..], &columns, Dialect::Tsv).unwrap();
        let rows: Vec<_> = rows.map(Result::unwrap).collect();
        let cells = |a: &str, b: &str| vec![Cell::Text(a.into()), Cell::Text(b.into())];
        assert_eq!((rows[0].text.as_str(), &rows[0].cells), ("\"a, b", &cells("0", "1")));
        assert_eq!((rows[1].place.as_str(), &rows[1].cells), ("a.tsv:3", &cells("x", "2")));
        let columns = Columns { text: "text".into(), others: vec!["lable".into()] };
        let error = super::rows("a.tsv".into(), &bytes[..], &columns, Dialect::Tsv).err().unwrap();
        let says = "no column \"lable\" (did you mean \"label\"?), columns here: \"n\", \"text\", \"label\"";
        assert_eq!(error.to_string(), format!("a.tsv: {says}"));
    }
}
