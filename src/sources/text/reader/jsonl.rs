//! `.jsonl`: one JSON object a line, the columns are its keys.

use super::object::{Scan, complaint, json_type, read, row};
use super::{BOM, Columns, Input, Row, Rows, TextError, check_first};
use std::io::{BufRead, Read as _};

struct Jsonl {
    input: Input,
    columns: Columns,
    /// Lines read so far, blank ones included.
    line: u64,
    /// Bytes read so far.
    offset: u64,
    buffer: Vec<u8>,
}

/// The rows of a JSON lines file. Blank lines are no rows; a `null` text is an empty one.
pub(super) fn rows(input: Input, columns: &Columns) -> Result<Rows, TextError> {
    check_first(Jsonl { input, columns: columns.clone(), line: 0, offset: 0, buffer: Vec::new() })
}

impl Iterator for Jsonl {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.buffer.clear();
            let start = self.offset;
            let most = self.input.limit.saturating_add(1);
            match (&mut self.input.bytes).take(most).read_until(b'\n', &mut self.buffer) {
                Ok(0) => return None,
                Ok(read) => self.offset += read as u64,
                Err(source) => return Some(Err(TextError::io(&self.input.name, source))),
            }
            self.line += 1;
            if self.buffer.len() as u64 > self.input.limit {
                return Some(Err(TextError::TooLarge { place: self.place(), limit: self.input.limit }));
            }
            let bom = if self.line == 1 && self.buffer.starts_with(BOM) { BOM.len() } else { 0 };
            if !self.buffer[bom..].trim_ascii().is_empty() {
                return Some(self.parse(bom, start));
            }
        }
    }
}

impl Jsonl {
    fn place(&self) -> String {
        format!("{}:{}", self.input.name, self.line)
    }

    /// The row of the line in the buffer, which starts at byte `start` of the file.
    fn parse(&self, bom: usize, start: u64) -> Result<Row, TextError> {
        let place = self.place();
        let line = std::str::from_utf8(&self.buffer[bom..]).map_err(|error| TextError::InvalidUtf8 {
            place: place.clone(),
            offset: start + (bom + error.valid_up_to()) as u64,
            within: "file",
        })?;
        let mut scan = Scan::new(line, 0);
        if let Some(fields) = scan.object().filter(|_| scan.peek().is_none()) {
            return row(&fields, &self.columns, place);
        }
        let mut scan = Scan::new(line, 0);
        let other = scan.value().filter(|_| scan.peek().is_none()).and_then(|value| read(value).ok());
        match other.filter(|value| !value.is_object()) {
            Some(value) => Err(TextError::NotAnObject { place, found: json_type(&value) }),
            None => Err(TextError::Json { place, message: complaint(line).1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RecordCell;
    use super::super::tests::input;
    use super::*;

    fn read(bytes: &'static [u8], column: &str) -> Result<Vec<(String, String)>, String> {
        let rows =
            rows(input("a.jsonl", bytes), &Columns::text(Some(column))).map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| (row.place, row.text)).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn rows_carry_their_line() {
        let text = b"\xEF\xBB\xBF{\"text\":\"a\\nb\"}\r\n\n  \n{\"n\":1,\"text\":\"\"}\n{\"text\":null}";
        let expected = [("a.jsonl:1", "a\nb"), ("a.jsonl:4", ""), ("a.jsonl:5", "")];
        assert_eq!(read(text, "text").unwrap(), expected.map(|(place, text)| (place.into(), text.into())));
    }

    #[test]
    fn bad_lines_are_named() {
        let first = "{\"text\":\"a\"}\n";
        let cases: [(&'static [u8], &str); 7] = [
            (b"{\"text\":\"a\"}\n{\"text\"", "a.jsonl:2: not JSON: EOF while parsing an object at column 7"),
            (b"{\"text\":\"a\"} x", "a.jsonl:1: not JSON: trailing characters at column 14"),
            (b"{\"text\":\"a\"}\n[1]", "a.jsonl:2: expected a JSON object, got an array"),
            (b"{\"text\":\"a\"}\n{\"text\":\"\xFF\"}", "a.jsonl:2: invalid UTF-8 at byte 22 of the file"),
            (b"{\"text\":\"a\"}\n{\"text\":3}", "a.jsonl:2: column \"text\" must be text, got a number"),
            (
                b"{\"txt\":\"a\"}",
                "a.jsonl:1: no column \"text\" (did you mean \"txt\"?), columns here: \"txt\"",
            ),
            (b"{}", "a.jsonl:1: no column \"text\", columns here: none"),
        ];
        assert_eq!(first.len() + 9, 22);
        for (bytes, message) in cases {
            assert_eq!(read(bytes, "text").unwrap_err(), message);
        }
    }

    #[test]
    fn what_python_writes_matters_only_where_it_is_read() {
        let nan =
            b"{\"text\":\"one\",\"label\":NaN, \"x\":[Infinity]}\n{\"text\":\"two\",\"label\":-Infinity}\n";
        assert_eq!(read(nan, "text").unwrap().len(), 2);
        assert_eq!(
            read(nan, "label").unwrap_err(),
            "a.jsonl:1: column \"label\" must be text, got NaN, which is no JSON"
        );
        let columns = Columns { text: "text".into(), others: vec!["label".into()], chats: false };
        let error = rows(input("a.jsonl", nan), &columns).err().unwrap().to_string();
        assert_eq!(error, "a.jsonl:1: column \"label\" must be text or a number, got NaN, which is no JSON");
        let surrogate =
            b"{\"text\":\"ok\",\"m\":\"x\"}\n{\"text\":\"fine\",\"m\":\"cut \\ud83d\",\"\\ud83d\":1}\n";
        assert_eq!(read(surrogate, "text").unwrap().len(), 2);
        let says =
            "a.jsonl:2: column \"m\" must be text, got a lone surrogate (\\ud83d), half of a character";
        assert_eq!(read(surrogate, "m").unwrap_err(), says);
        // A key that is there twice.
        assert_eq!(read(b"{\"text\":\"a\",\"text\":\"b\"}", "text").unwrap()[0].1, "b");
    }

    #[test]
    fn a_chat_stands_in_place_of_a_text() {
        let chat = b"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [{}]}\n{\"messages\":[],\"text\":\"a\"}";
        let all = |columns: &Columns| {
            let rows = rows(input("a.jsonl", chat), columns).map_err(|error| error.to_string())?;
            rows.map(|row| row.map(|row| (row.text, row.chat)).map_err(|e| e.to_string()))
                .collect::<Result<Vec<_>, _>>()
        };
        let text = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [{}]}".to_owned();
        assert_eq!(all(&Columns::text(None)).unwrap(), [(text, true), ("a".to_owned(), false)]);
        let says = "a.jsonl:1: no column \"text\", columns here: \"messages\", \"tools\"; \"messages\" is a chat, which \
                    is not read here: name a column of text";
        assert_eq!(all(&Columns { chats: false, ..Columns::text(None) }).unwrap_err(), says);
    }

    #[test]
    fn other_keys_are_scalars() {
        let read = |line: &'static str| {
            let columns = Columns { text: "text".into(), others: vec!["y".into()], chats: false };
            let rows = rows(input("a.jsonl", line.as_bytes()), &columns);
            rows.map(|mut rows| rows.next().unwrap().unwrap().cells.remove(0)).map_err(|e| e.to_string())
        };
        assert_eq!(read("{\"text\":\"a\",\"y\":1}").unwrap(), RecordCell::Integer(1));
        assert_eq!(read("{\"text\":\"a\",\"y\":1.5}").unwrap(), RecordCell::Number(1.5));
        assert_eq!(read("{\"text\":\"a\",\"y\":true}").unwrap(), RecordCell::Bool(true));
        assert_eq!(read("{\"text\":\"a\",\"y\":null}").unwrap(), RecordCell::Missing);
        let says = "a.jsonl:1: column \"y\" must be text or a number, got an array";
        assert_eq!(read("{\"text\":\"a\",\"y\":[1]}").unwrap_err(), says);
        assert!(read("{\"text\":\"a\"}").unwrap_err().starts_with("a.jsonl:1: no column \"y\""));
    }
}
