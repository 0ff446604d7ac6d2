//! `.json`: one list of objects, or of strings that are the texts themselves. Much that is called `.json` has one
//! object a line instead, and is read as [JSON lines](super::jsonl).

use super::object::{Scan, complaint, json_type, read, row};
use super::{BOM, Columns, Input, Row, Rows, TextError, check_first, jsonl};
use std::io::BufRead as _;

/// A list, held whole and read item by item.
struct List {
    name: String,
    text: String,
    columns: Columns,
    /// The byte behind the last item; nothing once the list has ended.
    at: Option<usize>,
    items: u64,
}

/// The rows of a JSON list, numbered from 1, or of JSON lines, named by line.
pub(super) fn rows(mut input: Input, columns: &Columns) -> Result<Rows, TextError> {
    let start = input.bytes.fill_buf().map_err(|source| TextError::io(&input.name, source))?;
    let start = start.strip_prefix(BOM).unwrap_or(start);
    if start.trim_ascii_start().first() == Some(&b'{') {
        let place = input.name.clone();
        return jsonl::rows(input, columns).map_err(|error| match error {
            TextError::Json { .. } => TextError::NotAList { place, found: "an object over several lines" },
            other => other,
        });
    }
    let name = input.name.clone();
    let text = input.read_whole()?;
    let mut scan = Scan::new(&text, 0);
    if !scan.take(b'[') {
        let value = scan.value().and_then(|value| read(value).ok());
        return Err(match value {
            Some(value) => TextError::NotAList { place: name, found: json_type(&value) },
            None => malformed(&name, &text),
        });
    }
    let at = Some(scan.at());
    check_first(List { name, text, columns: columns.clone(), at, items: 0 })
}

fn malformed(name: &str, text: &str) -> TextError {
    let (line, message) = complaint(text);
    TextError::Json { place: format!("{name}:{line}"), message }
}

impl Iterator for List {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut scan = Scan::new(&self.text, self.at.take()?);
        let row = match self.item(&mut scan) {
            Ok(None) => return None,
            Ok(Some(row)) => row,
            Err(error) => return Some(Err(error)),
        };
        self.at = Some(scan.at());
        self.items += 1;
        Some(Ok(row))
    }
}

impl List {
    fn item(&self, scan: &mut Scan<'_>) -> Result<Option<Row>, TextError> {
        if scan.take(b']') {
            return if scan.peek().is_none() { Ok(None) } else { Err(malformed(&self.name, &self.text)) };
        }
        if self.items > 0 && !scan.take(b',') {
            return Err(malformed(&self.name, &self.text));
        }
        let place = format!("{}: item {}", self.name, self.items + 1);
        if scan.peek() == Some(b'{') {
            let fields = scan.object().ok_or_else(|| malformed(&self.name, &self.text))?;
            return row(&fields, &self.columns, place).map(Some);
        }
        let value = scan.value().ok_or_else(|| malformed(&self.name, &self.text))?;
        match read(value) {
            Ok(serde_json::Value::String(text)) if self.columns.others.is_empty() => {
                Ok(Some(Row { place, text, chat: false, cells: Vec::new() }))
            }
            Ok(other) => Err(TextError::NotAnObject { place, found: json_type(&other) }),
            Err(message) => Err(TextError::Json { place, message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RecordCell;
    use super::super::tests::input;
    use super::*;

    fn read(json: &'static str, others: &[&str]) -> Result<Vec<Row>, String> {
        let columns = Columns {
            text: "text".into(),
            others: others.iter().map(|name| (*name).into()).collect(),
            chats: false,
        };
        let rows = rows(input("a.json", json.as_bytes()), &columns).map_err(|error| error.to_string())?;
        rows.map(|row| row.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn objects_and_strings() {
        let list = "\u{FEFF}[{\"text\": \"a\\nb\", \"y\": 2, \"z\": NaN},\n {\"y\": null, \"text\": null}]\n";
        let rows = read(list, &["y"]).unwrap();
        let row = |n, text: &str, cell| Row {
            place: format!("a.json: item {n}"),
            text: text.into(),
            chat: false,
            cells: vec![cell],
        };
        assert_eq!(rows, [row(1, "a\nb", RecordCell::Integer(2)), row(2, "", RecordCell::Missing)]);
        assert_eq!(read("[\"a\", \"b\"]", &[]).unwrap()[1].text, "b");
        assert!(read("[]", &[]).unwrap().is_empty());
    }

    #[test]
    fn lines_of_objects() {
        let rows = read("\u{FEFF}\n {\"text\": \"one\"}\n{\"text\": \"two\"}\n", &[]).unwrap();
        let places: Vec<_> = rows.iter().map(|row| (row.place.as_str(), row.text.as_str())).collect();
        assert_eq!(places, [("a.json:2", "one"), ("a.json:3", "two")]);
        assert_eq!(read("{\"text\": \"one\"}", &[]).unwrap()[0].text, "one");
    }

    #[test]
    fn what_is_not_a_list_of_rows_is_named() {
        for (json, message) in [
            ("{\"text\": [\"a\"]}", "a.json:1: column \"text\" must be text, got an array"),
            (
                "{\n\"text\": [\"a\"]}",
                "a.json: expected a list of JSON objects, or one object a line, got an object over several lines",
            ),
            ("3", "a.json: expected a list of JSON objects, or one object a line, got a number"),
            ("[\n\"a\"", "a.json:2: not JSON: EOF while parsing a list at column 3"),
            ("[\"a\"] x", "a.json:1: not JSON: trailing characters at column 7"),
            ("[\"a\" \"b\"]", "a.json:1: not JSON: expected `,` or `]` at column 6"),
            ("[\"a\",]", "a.json:1: not JSON: expected value at column 6"),
            ("[{\"text\": \"a\"}, 3]", "a.json: item 2: expected a JSON object, got a number"),
            (
                "[{\"txt\": \"a\"}]",
                "a.json: item 1: no column \"text\" (did you mean \"txt\"?), columns here: \"txt\"",
            ),
        ] {
            assert_eq!(read(json, &[]).unwrap_err(), message);
        }
        let error = read("[\"a\"]", &["y"]).unwrap_err();
        assert_eq!(error, "a.json: item 1: expected a JSON object, got a string");
    }
}
