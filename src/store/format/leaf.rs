//! The `act` leaf of a Parquet row group, encoded by hand.
//!
//! The general writers spend their time on what is constant here: repetition and definition levels of lists that all have the
//! same length and no nulls, copies into the encoder, one heap object per f16. So pages are made directly: levels as two
//! run-length codes per row, byte-stream-split from the shard buffer, zstd, in parallel over pages.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use rayon::prelude::*;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

/// Bytes of numbers per page: large enough for zstd, small enough to stay in the L2 cache.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// Numbers split at a time, so that the source is read from the L1 cache for every plane.
const SPLIT_BLOCK: usize = 2048;
/// zstd's fastest ordinary level.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// Encodes whole rows of little-endian numbers (`size` bytes each, `width` per row) as one column chunk.
pub(super) fn encode_chunk(
    leaf: &ColumnDescPtr,
    act: &[u8],
    width: usize,
    size: usize,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let row_bytes = width * size;
    let page_bytes = (PAGE_BYTES / row_bytes).max(1) * row_bytes;
    let pages: Result<Vec<CompressedPage>, ParquetError> = act
        .par_chunks(page_bytes)
        .map_init(
            || (compressor(), Scratch::default()),
            |(zstd, scratch), numbers| {
                let zstd = zstd.as_mut().map_err(|e| zstd_error(e))?;
                encode_page(zstd, scratch, numbers, width, size)
            },
        )
        .collect();
    chunk(leaf, pages?, act.len() / row_bytes, width)
}

/// Memory reused from page to page.
#[derive(Default)]
struct Scratch {
    planes: Vec<u8>,
    packed: Vec<u8>,
}

/// What pays in these planes is entropy coding of the exponents. Level 1 loses its time on short chance matches in them; a small
/// hash of long matches finds runs of zeros as well, makes smaller files here, and is 2.5 times as fast.
fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut zstd = Compressor::new(ZSTD_LEVEL)?;
    zstd.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))?;
    zstd.set_parameter(CParameter::MinMatch(7))?;
    zstd.set_parameter(CParameter::HashLog(10))?;
    zstd.set_parameter(CParameter::WindowLog(17))?;
    Ok(zstd)
}

fn zstd_error(e: &std::io::Error) -> ParquetError {
    ParquetError::General(format!("zstd: {e}"))
}

/// One data page (version 2): repetition levels, definition levels, compressed planes.
fn encode_page(
    zstd: &mut Compressor<'_>,
    scratch: &mut Scratch,
    numbers: &[u8],
    width: usize,
    size: usize,
) -> Result<CompressedPage, ParquetError> {
    let count = numbers.len() / size;
    let Scratch { planes, packed } = scratch;
    planes.resize(numbers.len(), 0);
    packed.resize(compress_bound(numbers.len()), 0);
    split_planes(numbers, planes, size);
    let packed_len = zstd.compress_to_buffer(planes, &mut packed[..]).map_err(|e| zstd_error(&e))?;
    let is_compressed = packed_len < planes.len();
    let content = if is_compressed { &packed[..packed_len] } else { &planes[..] };
    let (mut page, definition) = (levels(count, width), run_of_ones(count).len());
    let level_bytes = page.len();
    page.reserve_exact(content.len());
    page.extend_from_slice(content);
    let page = Page::DataPageV2 {
        buf: page.into(),
        num_values: count as u32,
        encoding: Encoding::BYTE_STREAM_SPLIT,
        num_nulls: 0,
        num_rows: (count / width) as u32,
        def_levels_byte_len: definition as u32,
        rep_levels_byte_len: (level_bytes - definition) as u32,
        is_compressed,
        statistics: None,
    };
    Ok(CompressedPage::new(page, level_bytes + numbers.len()))
}

/// Repetition levels (0 starts a row, 1 continues it), then definition levels (all 1), as run-length codes of bit width 1.
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
    let (mut code, mut rest) = (Vec::new(), n << 1);
    while rest >= 0x80 {
        code.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    code.extend([rest as u8, 1]);
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
                plane.iter_mut().zip(numbers).for_each(|(p, n)| *p = (u32::from_le_bytes(*n) >> (8 * j)) as u8);
            } else {
                let numbers = block.as_chunks::<2>().0;
                plane.iter_mut().zip(numbers).for_each(|(p, n)| *p = (u16::from_le_bytes(*n) >> (8 * j)) as u8);
            }
        }
    }
}

/// Puts the pages one after the other and describes them.
fn chunk(
    leaf: &ColumnDescPtr,
    pages: Vec<CompressedPage>,
    rows: usize,
    width: usize,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let total: usize = pages.iter().map(|p| p.data().len() + 64).sum();
    let mut sink = TrackedWrite::new(Vec::with_capacity(total));
    let mut writer = SerializedPageWriter::new(&mut sink);
    let mut index = OffsetIndexBuilder::new();
    let (mut uncompressed, n_pages) = (0, pages.len());
    for page in pages {
        index.append_row_count(i64::from(page.num_values()) / width as i64);
        let spec = writer.write_page(page)?;
        index.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
        uncompressed += spec.uncompressed_size;
    }
    let bytes = sink.into_inner()?;
    let stats = PageEncodingStats {
        page_type: PageType::DATA_PAGE_V2,
        encoding: Encoding::BYTE_STREAM_SPLIT,
        count: n_pages as i32,
    };
    let metadata = ColumnChunkMetaData::builder(leaf.clone())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_encodings(vec![Encoding::RLE, Encoding::BYTE_STREAM_SPLIT])
        .set_page_encoding_stats(vec![stats])
        .set_total_compressed_size(bytes.len() as i64)
        .set_total_uncompressed_size(uncompressed as i64)
        .set_num_values((rows * width) as i64)
        .set_data_page_offset(0)
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: Some(index.build()),
    };
    Ok((bytes.into(), close))
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
