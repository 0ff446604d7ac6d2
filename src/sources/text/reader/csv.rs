//! `.csv` and `.tsv`: a header row, then [records](super::records).

use super::records::{Bad, Dialect, Record, Records};
use super::{BOM, Columns, Input, RecordCell, Row, Rows, TextError, check_first};
use std::io::BufRead;

struct Csv<R> {
    name: String,
    records: Records<R>,
    limit: u64,
    /// Fields of the header.
    width: usize,
    /// Names and places of the columns asked for, the text first.
    columns: Vec<(String, usize)>,
    record: Record,
}

/// The rows of a CSV or TSV file, named by the line their record starts on. Blank lines are no rows.
pub(super) fn rows(input: Input, columns: &Columns, dialect: Dialect) -> Result<Rows, TextError> {
    let Input { name, mut bytes, limit } = input;
    if bytes.fill_buf().map_err(|source| TextError::io(&name, source))?.starts_with(BOM) {
        bytes.consume(BOM.len());
    }
    let mut csv = Csv {
        records: Records::new(bytes, dialect, limit),
        name,
        limit,
        width: 0,
        columns: vec![],
        record: Record::default(),
    };
    csv.read()?;
    csv.width = csv.record.len();
    csv.columns = csv.places(columns)?;
    check_first(csv)
}

impl<R: BufRead> Iterator for Csv<R> {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().and_then(|more| more.then(|| self.row()).transpose()).transpose()
    }
}

impl<R: BufRead> Csv<R> {
    fn read(&mut self) -> Result<bool, TextError> {
        let place = |line: u64| format!("{}:{line}", self.name);
        self.records.read(&mut self.record).map_err(|bad| match bad {
            Bad::Io(source) => TextError::io(&self.name, source),
            Bad::Syntax(line, message) => TextError::Csv { place: place(line), message: message.into() },
            Bad::TooLarge(line) => TextError::TooLarge { place: place(line), limit: self.limit },
        })
    }

    /// Where the header has the columns asked for.
    fn places(&self, columns: &Columns) -> Result<Vec<(String, usize)>, TextError> {
        let present: Vec<_> =
            self.record.fields().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
        let place = |column: &String| {
            let mut found = (0..present.len()).filter(|index| present[*index] == *column);
            match (found.next(), found.next()) {
                (Some(index), None) => Ok((column.clone(), index)),
                (Some(_), Some(_)) => {
                    let message = format!("column {column:?} is there more than once");
                    Err(TextError::Csv { place: format!("{}:{}", self.name, self.record.line), message })
                }
                (None, _) => {
                    let (place, column, present) = (self.name.clone(), column.clone(), present.clone());
                    Err(TextError::NoColumn { place, column, present })
                }
            }
        };
        columns.names().map(place).collect()
    }

    fn row(&self) -> Result<Row, TextError> {
        let place = format!("{}:{}", self.name, self.record.line);
        let len = self.record.len();
        if len != self.width {
            let message = format!("the record has {len} fields, the header {}", self.width);
            return Err(TextError::Csv { place, message });
        }
        let mut fields = self.columns.iter().map(|column| self.field(column, &place));
        let text = fields.next().transpose()?.unwrap_or_default();
        let cells = fields.map(|field| field.map(RecordCell::Text)).collect::<Result<_, _>>()?;
        Ok(Row { place, text, chat: false, cells })
    }

    fn field(&self, (column, index): &(String, usize), place: &str) -> Result<String, TextError> {
        let field = self.record.field(*index).unwrap_or_default();
        std::str::from_utf8(field).map(str::to_owned).map_err(|error| TextError::InvalidUtf8 {
            place: format!("{place}: column {column:?}"),
            offset: error.valid_up_to() as u64,
            within: "field",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::input;
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<Vec<(String, String)>, String> {
        let rows = rows(input("a.csv", bytes), &Columns::text(None), Dialect::Csv)
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
        assert_eq!(read(b"\xEF\xBB\xBF\"text\"\na").unwrap()[0].1, "a");
    }

    #[test]
    fn bad_records_are_named() {
        let cases: [(&'static [u8], &str); 8] = [
            (
                b"Text,n\na,1",
                "a.csv: no column \"text\" (did you mean \"Text\"?), columns here: \"Text\", \"n\"",
            ),
            (b"", "a.csv: no column \"text\", columns here: none"),
            (b"text,n\na,1\nb", "a.csv:3: bad csv: the record has 1 fields, the header 2"),
            (b"text,n\na,1\nb,1,2", "a.csv:3: bad csv: the record has 3 fields, the header 2"),
            (b"text\na\nb\xFF", "a.csv:3: column \"text\": invalid UTF-8 at byte 1 of the field"),
            (
                b"id,text\n1,\"open quote\n2,two\n3,three\n",
                "a.csv:2: bad csv: the quote that opens here never closes",
            ),
            (b"text,n,text\na,1,b", "a.csv:1: bad csv: column \"text\" is there more than once"),
            (b"text\na\0", "a.csv:2: bad csv: a NUL byte: is this UTF-16, or damaged?"),
        ];
        for (bytes, message) in cases {
            assert_eq!(read(bytes).unwrap_err(), message);
        }
    }

    #[test]
    fn tabs_without_quoting_and_other_columns() {
        let bytes = b"n\ttext\tlabel\r\n1\t\"a, b\t0\r\n2\t\tx\r\n";
        let columns = Columns { text: "text".into(), others: vec!["label".into(), "n".into()], chats: false };
        let rows = rows(input("a.tsv", bytes), &columns, Dialect::Tsv).unwrap();
        let rows: Vec<_> = rows.map(Result::unwrap).collect();
        let cells = |a: &str, b: &str| vec![RecordCell::Text(a.into()), RecordCell::Text(b.into())];
        assert_eq!((rows[0].text.as_str(), &rows[0].cells), ("\"a, b", &cells("0", "1")));
        assert_eq!((rows[1].place.as_str(), &rows[1].cells), ("a.tsv:3", &cells("x", "2")));
        let columns = Columns { text: "text".into(), others: vec!["lable".into()], chats: false };
        let error = super::rows(input("a.tsv", bytes), &columns, Dialect::Tsv).err().unwrap();
        let says = "no column \"lable\" (did you mean \"label\"?), columns here: \"n\", \"text\", \"label\"";
        assert_eq!(error.to_string(), format!("a.tsv: {says}"));
    }
}
