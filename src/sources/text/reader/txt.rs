//! `.txt`: the whole file is one document.

use super::{Input, Row, Rows};

/// The one row of a text file, read when it is asked for. Line ends are kept, a byte order mark is not.
pub(super) fn rows(input: Input) -> Rows {
    Box::new(std::iter::once_with(move || {
        let place = input.name.clone();
        Ok(Row { place, text: input.read_whole()?, chat: false, cells: Vec::new() })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::input;
    use super::*;

    fn one(bytes: &'static [u8]) -> Result<Row, String> {
        let mut rows = rows(input("a.txt", bytes));
        let row = rows.next().expect("one row").map_err(|error| error.to_string());
        assert!(rows.next().is_none());
        row
    }

    #[test]
    fn the_file_is_one_document() {
        assert_eq!(one(b"a\r\nb\n").unwrap().text, "a\r\nb\n");
        assert_eq!(one(b"\xEF\xBB\xBFa").unwrap().text, "a");
        assert_eq!(one(b"").unwrap().text, "");
    }

    #[test]
    fn invalid_bytes_are_named_by_line_and_offset() {
        assert_eq!(one(b"ab\nc\xFFd").unwrap_err(), "a.txt:2: invalid UTF-8 at byte 4 of the file");
        assert_eq!(one(b"\xEF\xBB\xBF\xFF").unwrap_err(), "a.txt:1: invalid UTF-8 at byte 3 of the file");
        assert!(one(b"\xFF\xFEa\0").unwrap_err().starts_with("a.txt: is UTF-16"));
    }
}
