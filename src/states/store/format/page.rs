//! One page of a Parquet column of lists without nulls: levels, byte-stream-split numbers, zstd, and the header in
//! front.

use parquet::basic::{Encoding, PageType};
use parquet::errors::ParquetError;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

/// Numbers split at a time, so that the source is read from the L1 cache for every plane.
const SPLIT_BLOCK: usize = 2048;
/// zstd's fastest ordinary level.
pub(super) const ZSTD_LEVEL: i32 = 1;
/// Room for a page's header, which is known last but comes first.
const HEADER_ROOM: usize = 64;

/// Where a page lies in its slot, header included, and what the footer must know of it.
#[derive(Debug)]
pub(super) struct PageInfo {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) uncompressed: usize,
    pub(super) rows: usize,
}

/// The most bytes that a page of `rows` rows of `width` numbers of `size` bytes can take, with room for its header.
pub(super) fn slot_bytes(rows: usize, width: usize, size: usize) -> usize {
    HEADER_ROOM + levels(rows * width, width).len() + compress_bound(rows * width * size)
}

/// What pays in these planes is entropy coding of the exponents. Level 1 loses its time on short chance matches in
/// them; a small hash of long matches finds runs of zeros as well, makes smaller f32 files, and is 2.5 times as fast
/// there (1.1 to 1.3 times for f16).
pub(super) fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut zstd = Compressor::new(ZSTD_LEVEL)?;
    zstd.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))?;
    zstd.set_parameter(CParameter::MinMatch(7))?;
    zstd.set_parameter(CParameter::HashLog(10))?;
    zstd.set_parameter(CParameter::WindowLog(17))?;
    Ok(zstd)
}

pub(super) fn zstd_error(e: &std::io::Error) -> ParquetError {
    ParquetError::General(format!("zstd: {e}"))
}

/// One data page (version 2) into its slot: header, repetition levels, definition levels, compressed planes.
pub(super) fn encode_page(
    zstd: &mut Compressor<'_>,
    planes: &mut Vec<u8>,
    slot: &mut [u8],
    numbers: &[u8],
    width: usize,
    size: usize,
) -> Result<PageInfo, ParquetError> {
    let count = numbers.len() / size;
    planes.resize(numbers.len(), 0);
    split_planes(numbers, planes, size);
    let (levels, definition) = (levels(count, width), run_of_ones(count).len());
    let (before, rest) = slot.split_at_mut(HEADER_ROOM + levels.len());
    before[HEADER_ROOM..].copy_from_slice(&levels);
    let mut packed = zstd.compress_to_buffer(planes, &mut rest[..]).map_err(|e| zstd_error(&e))?;
    let is_compressed = packed < planes.len();
    if !is_compressed {
        packed = planes.len();
        rest[..packed].copy_from_slice(planes);
    }
    let (uncompressed, compressed) = (levels.len() + numbers.len(), levels.len() + packed);
    let header = header(
        [uncompressed, compressed],
        [
            count,
            0,
            count / width,
            Encoding::BYTE_STREAM_SPLIT as usize,
            definition,
            levels.len() - definition,
        ],
        is_compressed,
    );
    let start = HEADER_ROOM - header.len();
    slot[start..HEADER_ROOM].copy_from_slice(&header);
    Ok(PageInfo {
        start,
        end: HEADER_ROOM + compressed,
        uncompressed: header.len() + uncompressed,
        rows: count / width,
    })
}

/// `PageHeader` of a version 2 data page in Thrift's compact protocol. `sizes`: uncompressed, compressed. `data`:
/// values, nulls, rows, encoding, bytes of definition levels, bytes of repetition levels. At most 56 bytes.
fn header(sizes: [usize; 2], data: [usize; 6], is_compressed: bool) -> Vec<u8> {
    const NEXT_I32: u8 = 0x15;
    let mut out = Vec::with_capacity(HEADER_ROOM);
    let i32_field = |out: &mut Vec<u8>, value: usize| {
        out.push(NEXT_I32);
        varint(out, value << 1);
    };
    i32_field(&mut out, PageType::DATA_PAGE_V2 as usize);
    for n in sizes {
        i32_field(&mut out, n);
    }
    out.push(0x5c); // field 3 + 5: a structure
    for n in data {
        i32_field(&mut out, n);
    }
    out.push(if is_compressed { 0x11 } else { 0x12 });
    out.extend([0, 0]);
    out
}

fn varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Repetition levels (0 starts a row, 1 continues it), then definition levels (all 1), as run-length codes of one bit.
fn levels(count: usize, width: usize) -> Vec<u8> {
    let mut row = vec![0b10, 0];
    if width > 1 {
        row.extend(run_of_ones(width - 1));
    }
    let mut out = row.repeat(count / width);
    out.extend(run_of_ones(count));
    out
}

/// `n` ones: the run length shifted by one as a varint, then the value.
fn run_of_ones(n: usize) -> Vec<u8> {
    let mut code = Vec::new();
    varint(&mut code, n << 1);
    code.push(1);
    code
}

/// Byte j of number i goes to place i of plane j.
fn split_planes(numbers: &[u8], planes: &mut [u8], size: usize) {
    let count = numbers.len() / size;
    for (b, block) in numbers.chunks(SPLIT_BLOCK * size).enumerate() {
        for j in 0..size {
            let plane = &mut planes[j * count + b * SPLIT_BLOCK..][..block.len() / size];
            // Shifting whole numbers is what the compiler turns into vector code.
            if size == 4 {
                let numbers = block.as_chunks::<4>().0;
                plane
                    .iter_mut()
                    .zip(numbers)
                    .for_each(|(p, n)| *p = (u32::from_le_bytes(*n) >> (8 * j)) as u8);
            } else {
                let numbers = block.as_chunks::<2>().0;
                plane
                    .iter_mut()
                    .zip(numbers)
                    .for_each(|(p, n)| *p = (u16::from_le_bytes(*n) >> (8 * j)) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_hand() {
        // Two rows of 3: levels 0 1 1, 0 1 1, then six ones.
        assert_eq!(levels(6, 3), [2, 0, 4, 1, 2, 0, 4, 1, 12, 1]);
        assert_eq!(levels(2, 1), [2, 0, 2, 0, 4, 1]);
        assert_eq!(run_of_ones(767), [0xfe, 0x0b, 1]);
    }

    #[test]
    fn header_by_hand() {
        // Compact protocol: zigzag varints, 300 -> 600 -> 0xd8 0x04; field 8 is five after field 3.
        let bytes = header([300, 7], [6, 0, 2, 9, 2, 8], false);
        let inner = [0x5c, 0x15, 12, 0x15, 0, 0x15, 4, 0x15, 18, 0x15, 4, 0x15, 16, 0x12, 0, 0];
        assert_eq!(bytes, [&[0x15, 6, 0x15, 0xd8, 4, 0x15, 14][..], &inner].concat());
        let largest = i32::MAX as usize;
        assert!(header([largest; 2], [largest; 6], true).len() <= HEADER_ROOM);
    }

    #[test]
    fn planes_by_hand() {
        let mut planes = [0; 8];
        split_planes(&[1, 2, 3, 4, 5, 6, 7, 8], &mut planes, 4);
        assert_eq!(planes, [1, 5, 2, 6, 3, 7, 4, 8]);
        split_planes(&[1, 2, 3, 4, 5, 6, 7, 8], &mut planes, 2);
        assert_eq!(planes, [1, 3, 5, 7, 2, 4, 6, 8]);
        let long: Vec<u8> = (0..5000_u16).flat_map(u16::to_le_bytes).collect();
        let mut planes = vec![0; long.len()];
        split_planes(&long, &mut planes, 2);
        assert!((0..5000).all(|i| planes[i] == long[2 * i] && planes[5000 + i] == long[2 * i + 1]));
    }
}
