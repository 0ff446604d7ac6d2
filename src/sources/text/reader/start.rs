//! What the first bytes of a file say it is, where that is not what its name says.

use super::TextError;

/// First bytes of what is no text, and what to do.
const MAGIC: [(&[u8], &str); 8] = [
    (b"\xFF\xFE", "UTF-16, UTF-8 is needed: convert it, iconv -f UTF-16 -t UTF-8"),
    (b"\xFE\xFF", "UTF-16, UTF-8 is needed: convert it, iconv -f UTF-16 -t UTF-8"),
    (b"\x1F\x8B", "gzip, which its name does not say: call it .gz"),
    (b"\x28\xB5\x2F\xFD", "zstd, which its name does not say: call it .zst"),
    (b"BZh", "bzip2, which is not read: unpack it"),
    (b"PK\x03\x04", "a zip archive, which is not read: unpack it"),
    (b"PAR1", "Parquet, which its name does not say: call it .parquet"),
    (b"ARROW1", "Arrow, which its name does not say: call it .arrow"),
];

/// Refuses a text file that begins like something else.
pub(super) fn check(name: &str, start: &[u8]) -> Result<(), TextError> {
    let magic = MAGIC.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|(_, is)| *is);
    let is = magic.or_else(|| is_utf16(start).then_some(MAGIC[0].1));
    match is.filter(|_| is_binary(start)) {
        Some(is) => Err(TextError::NotThisFormat { place: name.into(), is }),
        None => Ok(()),
    }
}

/// Bytes that no text has: some archives begin with letters.
fn is_binary(start: &[u8]) -> bool {
    let invalid = std::str::from_utf8(start).err().is_some_and(|error| error.error_len().is_some());
    invalid || start.iter().any(|byte| matches!(byte, 0..=8 | 14..=26))
}

/// ASCII in UTF-16 without a byte order mark: every other byte is zero.
fn is_utf16(start: &[u8]) -> bool {
    let start = &start[..start.len().min(64) / 2 * 2];
    let zero = |from: usize| start.iter().skip(from).step_by(2).all(|byte| *byte == 0);
    start.len() >= 4 && (zero(0) != zero(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named() {
        let is =
            |bytes: &[u8]| check("a.csv", bytes).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            is(b"\xFF\xFEt\0"),
            "a.csv: is UTF-16, UTF-8 is needed: convert it, iconv -f UTF-16 -t UTF-8"
        );
        assert!(is(b"t\0e\0x\0t\0").contains("UTF-16") && is(b"\0t\0e\0x\0t").contains("UTF-16"));
        assert!(is(b"\x1F\x8B\x08\0").contains(".gz") && is(b"\x28\xB5\x2F\xFD\x24").contains(".zst"));
        assert!(is(b"PAR1\x15\x04").contains(".parquet"));
        for text in
            [&b"text,n\n"[..], b"PAR1,BZh\n", b"", b"\0\0\0\0\0\0", b"\xEF\xBB\xBFtext", "é".as_bytes()]
        {
            assert_eq!(is(text), "", "{text:?}");
        }
    }
}
