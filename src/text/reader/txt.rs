//! `.txt`: the whole file is one document.

use super::{BOM, Row, Rows, TextError};
use std::io::Read;

/// The one row of a text file, read when it is asked for. Line ends are kept, a byte order mark is not.
pub(super) fn rows(name: String, input: impl Read + Send + 'static) -> Rows {
    Box::new(std::iter::once_with(move || read(name, input)))
}

fn read(name: String, mut input: impl Read) -> Result<Row, TextError> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|source| TextError::io(&name, source))?;
    let bom = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    if let Err(error) = std::str::from_utf8(&bytes[bom..]) {
        let at = bom + error.valid_up_to();
        let line = bytes[..at].split(|byte| *byte == b'\n').count();
        return Err(TextError::InvalidUtf8 {
            place: format!("{name}:{line}"),
            offset: at as u64,
            within: "file",
        });
    }
    bytes.drain(..bom);
    let text = String::from_utf8(bytes).map_err(|error| TextError::InvalidUtf8 {
        place: name.clone(),
        offset: error.utf8_error().valid_up_to() as u64,
        within: "file",
    })?;
    Ok(Row { place: name, text, cells: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &'static [u8]) -> Result<Row, String> {
        let mut rows = rows("a.txt".into(), bytes);
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
    }
}
