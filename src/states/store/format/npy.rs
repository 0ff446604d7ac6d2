//! `NumPy`'s array file, version 1.0: a text header padded to 64 bytes, then the numbers.
//! `numpy.load(path, mmap_mode="r")` reads it.

use std::io::Write;

use super::{Acts, BoxError, widen};
use crate::states::store::ActDtype;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Writes a 2-D array `[rows, width]`, little-endian, C order.
pub(super) fn write(out: &mut impl Write, acts: &Acts<'_>) -> Result<(), BoxError> {
    out.write_all(&header(acts.ids.len(), acts.column.width, acts.dtype))?;
    out.write_all(acts.act)?;
    Ok(())
}

/// The header of such an array, padded with spaces so that the numbers start at a multiple of 64.
pub(in crate::states::store) fn header(rows: usize, width: usize, dtype: ActDtype) -> Vec<u8> {
    let descr = match dtype {
        ActDtype::F32 | ActDtype::Bf16 => "<f4", // of bf16 there is no file
        ActDtype::F16 => "<f2",
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let unpadded = MAGIC.len() + 2 + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

/// Reads the array; the header must be the one this tool writes.
pub(super) fn read(file: &[u8], width: usize, dtype: ActDtype, out: &mut [f32]) -> Result<(), BoxError> {
    let expected = header(out.len() / width, width, dtype);
    let numbers = file.strip_prefix(&expected[..]).ok_or_else(|| {
        let found = String::from_utf8_lossy(&file[..file.len().min(expected.len())]).into_owned();
        format!("header is {found:?}, expected {:?}", String::from_utf8_lossy(&expected))
    })?;
    widen(numbers, dtype, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_by_hand() {
        let h = header(40000, 768, ActDtype::F16);
        assert_eq!(h.len() % 64, 0);
        assert_eq!(u16::from_le_bytes([h[8], h[9]]) as usize, h.len() - 10);
        assert!(h[10..].starts_with(b"{'descr': '<f2', 'fortran_order': False, 'shape': (40000, 768), }"));
        assert_eq!(h.last(), Some(&b'\n'));
    }
}
