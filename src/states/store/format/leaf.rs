//! The `act` leaf of a Parquet row group, encoded by hand.
//!
//! The general writers spend their time on what is constant here: repetition and definition levels of lists that all
//! have the same length and no nulls, copies into the encoder, one heap object per f16. So pages are made directly:
//! levels as two run-length codes per row, byte-stream-split from the shard buffer, zstd, in parallel over pages, in
//! memory that is reused.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;
use rayon::prelude::*;
use zstd::bulk::Compressor;

use super::page::{PageInfo, ZSTD_LEVEL, compressor, encode_page, slot_bytes, zstd_error};

/// Bytes of numbers per page: large enough for zstd, small enough to stay in the L2 cache.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// The pages of one column chunk, each in its slot of a buffer that is reused for the next chunk.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    slots: Vec<u8>,
    slot_bytes: usize,
    pages: Vec<PageInfo>,
}

thread_local! {
    /// Fresh memory costs a page fault per 4 KiB, as much as the encoding itself; so each thread keeps its compressor,
    /// the planes of one page, and one chunk.
    static WORK: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    static CHUNK: RefCell<Chunk> = RefCell::default();
}

impl Chunk {
    /// This thread's chunk, or a new one while it is in use. Give it back with [`Chunk::keep`].
    pub(super) fn take() -> Self {
        CHUNK.with(RefCell::take)
    }

    /// Keeps the memory for the next file that this thread writes.
    pub(super) fn keep(self) {
        CHUNK.with(|kept| kept.replace(self));
    }

    /// Encodes whole rows of little-endian numbers (`size` bytes each, `width` per row); returns what the row group's
    /// writer needs to take over this chunk.
    pub(super) fn encode(
        &mut self,
        leaf: &ColumnDescPtr,
        act: &[u8],
        width: usize,
        size: usize,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let row_bytes = width * size;
        let page_rows = (PAGE_BYTES / row_bytes).max(1);
        let page_bytes = page_rows * row_bytes;
        self.slot_bytes = slot_bytes(page_rows, width, size);
        let n_pages = act.len().div_ceil(page_bytes);
        if self.slots.len() < n_pages * self.slot_bytes {
            self.slots.resize(n_pages * self.slot_bytes, 0);
        }
        let pages: Result<Vec<PageInfo>, ParquetError> = act
            .par_chunks(page_bytes)
            .zip(self.slots.par_chunks_mut(self.slot_bytes))
            .map(|(numbers, slot)| {
                WORK.with_borrow_mut(|work| {
                    if work.is_none() {
                        *work = Some((compressor().map_err(|e| zstd_error(&e))?, Vec::new()));
                    }
                    let (zstd, planes) =
                        work.as_mut().ok_or_else(|| ParquetError::General("no compressor".into()))?;
                    encode_page(zstd, planes, slot, numbers, width, size)
                })
            })
            .collect();
        self.pages = pages?;
        self.describe(leaf, act.len() / row_bytes, width)
    }

    fn describe(
        &self,
        leaf: &ColumnDescPtr,
        rows: usize,
        width: usize,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let mut index = OffsetIndexBuilder::new();
        let mut offset = 0;
        for page in &self.pages {
            let bytes = page.end - page.start;
            index.append_row_count(page.rows as i64);
            index.append_offset_and_size(offset as i64, bytes as i32);
            offset += bytes;
        }
        let stats = PageEncodingStats {
            page_type: PageType::DATA_PAGE_V2,
            encoding: Encoding::BYTE_STREAM_SPLIT,
            count: self.pages.len() as i32,
        };
        let metadata = ColumnChunkMetaData::builder(leaf.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_encodings(vec![Encoding::RLE, Encoding::BYTE_STREAM_SPLIT])
            .set_page_encoding_stats(vec![stats])
            .set_total_compressed_size(offset as i64)
            .set_total_uncompressed_size(self.pages.iter().map(|p| p.uncompressed as i64).sum())
            .set_num_values((rows * width) as i64)
            .set_data_page_offset(0)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: offset as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        })
    }

    fn page(&self, i: usize) -> Option<&[u8]> {
        let page = self.pages.get(i)?;
        Some(&self.slots[i * self.slot_bytes..][page.start..page.end])
    }
}

/// Reads a chunk's pages one after the other.
#[derive(Debug)]
pub(super) struct PageReader<'a> {
    chunk: &'a Chunk,
    next: usize,
    current: &'a [u8],
}

impl Read for PageReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            let Some(page) = self.chunk.page(self.next) else { return Ok(0) };
            (self.current, self.next) = (page, self.next + 1);
        }
        self.current.read(buf)
    }
}

impl Length for &Chunk {
    fn len(&self) -> u64 {
        self.pages.iter().map(|p| (p.end - p.start) as u64).sum()
    }
}

impl<'a> ChunkReader for &'a Chunk {
    type T = PageReader<'a>;

    fn get_read(&self, start: u64) -> Result<PageReader<'a>, ParquetError> {
        let mut reader = PageReader { chunk: self, next: 0, current: &[] };
        std::io::copy(&mut (&mut reader).take(start), &mut std::io::sink())?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = Vec::new();
        self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}
