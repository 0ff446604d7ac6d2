//! `.jsonl`: one JSON object a line, the text in one of its keys.

use super::{BOM, Row, Rows, TextError, check_first};
use serde_json::{Map, Value};
use std::io::BufRead;

struct Jsonl<R> {
    name: String,
    input: R,
    column: String,
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
    column: String,
) -> Result<Rows, TextError> {
    check_first(Jsonl { name, input, column, line: 0, offset: 0, buffer: Vec::new() })
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
        let text = self.text(object, &place)?;
        Ok(Row { place, text })
    }

    fn text(&self, mut object: Map<String, Value>, place: &str) -> Result<String, TextError> {
        match object.get_mut(&self.column).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Null) => Ok(String::new()),
            Some(other) => Err(TextError::NotText {
                place: place.into(),
                column: self.column.clone(),
                found: json_type(&other).into(),
            }),
            None => Err(TextError::NoColumn {
                place: place.into(),
                column: self.column.clone(),
                present: object.keys().cloned().collect(),
            }),
        }
    }
}

/// `serde_json`'s message with the column only: it sees one line, so its line number is always 1.
fn json_message(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    format!("{message} at column {}", error.column())
}

fn json_type(value: &Value) -> &'static str {
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
        let rows = rows("a.jsonl".into(), bytes, column.into()).map_err(|error| error.to_string())?;
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
}
