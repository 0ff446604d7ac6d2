//! JSON as Python writes it, of which only what is asked for is read.
//!
//! Python writes `NaN` and lone surrogates, which are no JSON. In a value that nobody asked for they do not matter; one
//! that is asked for is read strictly, and the error names what is wrong with it.

use super::{Columns, RecordCell, Row, TextError};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Walks over values without reading them.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// From byte `at` of `text`.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// The byte that comes next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What comes next that is not white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let space = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += space;
        rest.get(space).copied()
    }

    /// Goes over `byte` if that is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// The next value as it is written. Inside lists and objects only strings and brackets are looked at.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        let (first, start) = (self.peek()?, self.at);
        let mut open = Vec::new();
        match first {
            b'"' => return self.string(),
            b'{' | b'[' => {}
            _ => return self.bare(),
        }
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                bracket @ (b'{' | b'[' | b'}' | b']') => {
                    self.at += 1;
                    match bracket {
                        b'{' => open.push(b'}'),
                        b'[' => open.push(b']'),
                        _ if open.pop() != Some(bracket) => return None,
                        _ if open.is_empty() => return Some(&self.text[start..self.at]),
                        _ => {}
                    }
                }
                _ => self.at += self.text[self.at..].chars().next()?.len_utf8(),
            }
        }
    }

    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at]);
                }
                b'\\' if bytes.get(self.at + 1)?.is_ascii() => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// A number or a word: `true`, `null`, `NaN`.
    fn bare(&mut self) -> Option<&'a str> {
        let start = self.at;
        let rest = &self.text[start..];
        let len =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        self.at += len;
        let word = &rest[..len];
        let number = |word: &str| word.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let known = ["true", "false", "null"].contains(&word) || is_not_finite(word);
        (known || number(word.strip_prefix('-').unwrap_or(word))).then_some(word)
    }

    /// The keys and values of the object that comes next, as they are written.
    pub(super) fn object(&mut self) -> Option<Vec<(&'a str, &'a str)>> {
        let mut fields = Vec::new();
        if !self.take(b'{') {
            return None;
        }
        if self.take(b'}') {
            return Some(fields);
        }
        loop {
            if self.peek() != Some(b'"') {
                return None;
            }
            let key = self.string()?;
            if !self.take(b':') {
                return None;
            }
            fields.push((key, self.value()?));
            if self.take(b'}') {
                return Some(fields);
            }
            if !self.take(b',') {
                return None;
            }
        }
    }
}

/// The row that an object is.
pub(super) fn row(fields: &[(&str, &str)], columns: &Columns, place: String) -> Result<Row, TextError> {
    let keys: Vec<String> = fields
        .iter()
        .map(|(key, _)| serde_json::from_str(key).unwrap_or_else(|_| (*key).to_owned()))
        .collect();
    // Of a key that is there twice the last counts, as in Python.
    let value =
        |column: &String| {
            keys.iter().rposition(|key| key == column).map(|at| fields[at].1).ok_or_else(|| {
                TextError::NoColumn { place: place.clone(), column: column.clone(), present: keys.clone() }
            })
        };
    let name = columns.text_among(|name| keys.iter().any(|key| key == name)).to_owned();
    let not_text = |found: String| TextError::NotText { place: place.clone(), column: name.clone(), found };
    let written = value(&name)?;
    let (text, chat) = match read(written).map_err(not_text)? {
        Value::String(text) => (text, false),
        Value::Null => (String::new(), false),
        Value::Array(messages) if columns.chats && messages.iter().all(Value::is_object) => {
            let tools = keys.iter().rposition(|key| key == "tools").map_or("null", |at| fields[at].1);
            (format!("{{\"messages\": {written}, \"tools\": {tools}}}"), true)
        }
        other => return Err(not_text(json_type(&other).into())),
    };
    let cell = |column: &String| {
        let no_cell =
            |found: String| TextError::NotScalar { place: place.clone(), column: column.clone(), found };
        let value = read(value(column)?).map_err(no_cell)?;
        cell(&value).ok_or_else(|| no_cell(json_type(&value).into()))
    };
    let cells = columns.others.iter().map(cell).collect::<Result<_, _>>()?;
    Ok(Row { place, text, chat, cells })
}

fn cell(value: &Value) -> Option<RecordCell> {
    match value {
        Value::Null => Some(RecordCell::Missing),
        Value::Bool(b) => Some(RecordCell::Bool(*b)),
        Value::String(text) => Some(RecordCell::Text(text.clone())),
        Value::Number(n) => {
            n.as_i64().map(RecordCell::Integer).or_else(|| n.as_f64().map(RecordCell::Number))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value, or what it is instead of one.
pub(super) fn read(written: &str) -> Result<Value, String> {
    serde_json::from_str(written).map_err(|error| {
        if is_not_finite(written) {
            return format!("{written}, which is no JSON");
        }
        match lone_surrogate(written) {
            Some(half) => format!("a lone surrogate ({half}), half of a character"),
            None => json_message(&error),
        }
    })
}

fn is_not_finite(word: &str) -> bool {
    ["NaN", "Infinity", "-Infinity"].contains(&word)
}

/// The first `\ud83d` of a string that stands without its other half.
fn lone_surrogate(written: &str) -> Option<&str> {
    let unit = |at: usize| {
        let escape = written.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    let (bytes, mut at) = (written.as_bytes(), 0);
    while at < bytes.len() {
        match (bytes[at], unit(at)) {
            (b'\\', Some(0xD800..=0xDBFF)) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            (b'\\', Some(0xD800..=0xDFFF)) => return written.get(at..at + 6),
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// What `serde_json` has against a text that [`Scan`] does not get through: its line and its message.
pub(super) fn complaint(text: &str) -> (usize, String) {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => (error.line(), json_message(&error)),
        Ok(IgnoredAny) => (1, "malformed".into()),
    }
}

/// `serde_json`'s message with the column only: the line is in the place.
fn json_message(error: &serde_json::Error) -> String {
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

    #[test]
    fn values_are_walked_over() {
        for value in [
            "1",
            "-1.5e3",
            "null",
            "NaN",
            "-Infinity",
            "\"a\\\"b\\\\\"",
            "[1,{\"]\":[]}]",
            "{}",
            "\"\\ud83d\"",
        ] {
            let text = format!(" {value} ,");
            let mut scan = Scan::new(&text, 0);
            assert_eq!(scan.value(), Some(value));
            assert!(scan.take(b','));
        }
        for bad in ["", "nan", "[1", "[}", "\"a", "\"a\\", "x", "-", "{\"a\":\"é\\é"] {
            assert_eq!(Scan::new(bad, 0).value(), None, "{bad}");
        }
        let mut scan = Scan::new("{\"a\": 1 , \"b\":[2,\n3]} ", 0);
        assert_eq!(scan.object().unwrap(), [("\"a\"", "1"), ("\"b\"", "[2,\n3]")]);
        for bad in ["{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "[]", "{1:2}"] {
            assert!(Scan::new(bad, 0).object().is_none(), "{bad}");
        }
    }

    #[test]
    fn halves_of_characters() {
        assert_eq!(lone_surrogate(r#""a\ud83d""#), Some("\\ud83d"));
        assert_eq!(lone_surrogate(r#""a\uDE42b""#), Some("\\uDE42"));
        assert_eq!(lone_surrogate(r#""\ud83d\ud83d\ude42""#), Some("\\ud83d"));
        assert_eq!(lone_surrogate(r#""\ud83d\ude42 \\ud83d é""#), None);
    }
}
