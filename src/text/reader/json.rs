//! `.json`: one list of objects, or of strings that are the texts themselves.

use super::jsonl::{json_message, json_type, row};
use super::{BOM, Columns, Row, Rows, TextError, check_first};
use serde_json::Value;
use std::io::Read;

/// The rows of a JSON list, numbered from 1. The list is read whole.
pub(super) fn rows(name: &str, mut input: impl Read, columns: &Columns) -> Result<Rows, TextError> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|source| TextError::io(name, source))?;
    let json = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    let value = serde_json::from_slice(json).map_err(|error| TextError::Json {
        place: format!("{name}:{}", error.line()),
        message: json_message(&error),
    })?;
    let Value::Array(items) = value else {
        return Err(TextError::NotAList { place: name.into(), found: json_type(&value) });
    };
    let (name, columns) = (name.to_owned(), columns.clone());
    let rows = items.into_iter().zip(1_u64..);
    check_first(rows.map(move |(item, n)| one(item, &columns, format!("{name}: item {n}"))))
}

fn one(item: Value, columns: &Columns, place: String) -> Result<Row, TextError> {
    match item {
        Value::Object(object) => row(&object, columns, place),
        Value::String(text) if columns.others.is_empty() => Ok(Row { place, text, cells: Vec::new() }),
        other => Err(TextError::NotAnObject { place, found: json_type(&other) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::reader::Cell;

    fn read(json: &'static str, others: &[&str]) -> Result<Vec<Row>, String> {
        let columns =
            Columns { text: "text".into(), others: others.iter().map(|name| (*name).into()).collect() };
        let rows = rows("a.json", json.as_bytes(), &columns).map_err(|error| error.to_string())?;
        rows.map(|row| row.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn objects_and_strings() {
        let rows = read("\u{FEFF}[{\"text\": \"a\\nb\", \"y\": 2},\n {\"y\": null, \"text\": null}]", &["y"])
            .unwrap();
        let row = |n, text: &str, cell| Row {
            place: format!("a.json: item {n}"),
            text: text.into(),
            cells: vec![cell],
        };
        assert_eq!(rows, [row(1, "a\nb", Cell::Integer(2)), row(2, "", Cell::Missing)]);
        assert_eq!(read("[\"a\", \"b\"]", &[]).unwrap()[1].text, "b");
        assert!(read("[]", &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_a_list_of_rows_is_named() {
        for (json, message) in [
            ("{\"text\": [\"a\"]}", "a.json: expected a list of JSON objects, got an object"),
            ("[\n\"a\"", "a.json:2: not JSON: EOF while parsing a list at column 3"),
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
