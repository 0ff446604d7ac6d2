//! `.jsonl`: one JSON object a line, the columns are its keys.

use super::{BOM, Cell, Columns, Row, Rows, TextError, check_first};
use serde_json::{Map, Value};
use std::io::BufRead;

struct Jsonl<R> {
    name: String,
    input: R,
    columns: Columns,
    /// Lines read so far, blank ones included.
    line: u64,
    /// Bytes read so far.
    offset: u64,
    buffer: Vec<u8>,
}

/// The rows of a JSON lines file. Blank lines are no rows; a `null` text is an empty one.
pub(super) fn rows(
    name: String,
    input: impl BufRead + Send + 'static,
    columns: &Columns,
) -> Result<Rows, TextError> {
    check_first(Jsonl { name, input, columns: columns.clone(), line: 0, offset: 0, buffer: Vec::new() })
}

impl<R: BufRead> Iterator for Jsonl<R> {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.buffer.clear();
            let start = self.offset;
            match self.input.read_until(b'\n', &mut self.buffer) {
                Ok(0) => return None,
                Ok(read) => self.offset += read as u64,
                Err(source) => return Some(Err(TextError::io(&self.name, source))),
            }
            self.line += 1;
            let bom = if self.line == 1 && self.buffer.starts_with(BOM) { BOM.len() } else { 0 };
            if !self.buffer[bom..].trim_ascii().is_empty() {
                return Some(self.parse(bom, start));
            }
        }
    }
}

impl<R> Jsonl<R> {
    /// The row of the line in the buffer, which starts at byte `start` of the file.
    fn parse(&self, bom: usize, start: u64) -> Result<Row, TextError> {
        let place = format!("{}:{}", self.name, self.line);
        let line = std::str::from_utf8(&self.buffer[bom..]).map_err(|error| TextError::InvalidUtf8 {
            place: place.clone(),
            offset: start + (bom + error.valid_up_to()) as u64,
            within: "file",
        })?;
        let value = serde_json::from_str(line)
            .map_err(|error| TextError::Json { place: place.clone(), message: json_message(&error) })?;
        let Value::Object(object) = value else {
            return Err(TextError::NotAnObject { place, found: json_type(&value) });
        };
        row(&object, &self.columns, place)
    }
}

/// The row that an object is.
pub(super) fn row(object: &Map<String, Value>, columns: &Columns, place: String) -> Result<Row, TextError> {
    let value = |column: &String| {
        object.get(column).ok_or_else(|| TextError::NoColumn {
            place: place.clone(),
            column: column.clone(),
            present: object.keys().cloned().collect(),
        })
    };
    let bad = |column: &String, value: &Value| (place.clone(), column.clone(), json_type(value).to_owned());
    let text = match value(&columns.text)? {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => {
            let (place, column, found) = bad(&columns.text, other);
            return Err(TextError::NotText { place, column, found });
        }
    };
    let cell = |column: &String| {
        let value = value(column)?;
        cell(value).ok_or_else(|| {
            let (place, column, found) = bad(column, value);
            TextError::NotScalar { place, column, found }
        })
    };
    let cells = columns.others.iter().map(cell).collect::<Result<_, _>>()?;
    Ok(Row { place, text, cells })
}

fn cell(value: &Value) -> Option<Cell> {
    match value {
        Value::Null => Some(Cell::Missing),
        Value::Bool(b) => Some(Cell::Bool(*b)),
        Value::String(text) => Some(Cell::Text(text.clone())),
        Value::Number(n) => n.as_i64().map(Cell::Integer).or_else(|| n.as_f64().map(Cell::Number)),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// `serde_json`'s message with the column only: it sees one line, so its line number is always 1.
pub(super) fn json_message(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    format!("{message} at column {}", error.column())
}

pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8], column: &str) -> Result<Vec<(String, String)>, String> {
        let rows =
            rows("a.jsonl".into(), bytes, &Columns::text(Some(column))).map_err(|error| error.to_string())?;
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
        let cases: [(&'static [u8], &str); 6] = [
            (b"{\"text\":\"a\"}\n{\"text\"", "a.jsonl:2: not JSON: EOF while parsing an object at column 7"),
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
    fn other_keys_are_scalars() {
        let read = |line: &'static str| {
            let columns = Columns { text: "text".into(), others: vec!["y".into()] };
            let rows = rows("a.jsonl".into(), line.as_bytes(), &columns);
            rows.map(|mut rows| rows.next().unwrap().unwrap().cells.remove(0)).map_err(|e| e.to_string())
        };
        assert_eq!(read("{\"text\":\"a\",\"y\":1}").unwrap(), Cell::Integer(1));
        assert_eq!(read("{\"text\":\"a\",\"y\":1.5}").unwrap(), Cell::Number(1.5));
        assert_eq!(read("{\"text\":\"a\",\"y\":true}").unwrap(), Cell::Bool(true));
        assert_eq!(read("{\"text\":\"a\",\"y\":null}").unwrap(), Cell::Missing);
        let says = "a.jsonl:1: column \"y\" must be text or a number, got an array";
        assert_eq!(read("{\"text\":\"a\",\"y\":[1]}").unwrap_err(), says);
        assert!(read("{\"text\":\"a\"}").unwrap_err().starts_with("a.jsonl:1: no column \"y\""));
    }
}
