//! The shard buffer: rows of every column in memory until the shard is full, then written as files.

use std::path::PathBuf;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

use super::format::{self, Acts};
use super::schema::tokens_path;
use super::{ActDtype, Column, Layout, RowIds, StoreError};
use crate::results::run::{Written, write_atomic, write_atomic_sized};
use crate::states::store::{FileRecord, ShardMarker};

/// Values checked and copied at a time: stays in the L1 cache.
const BLOCK: usize = 1024;

/// Where a shard goes: shared by all shards of an export, cheap to clone, may be sent to a writing thread.
#[derive(Debug, Clone)]
pub struct ShardTarget {
    /// The export folder.
    pub dir: PathBuf,
    /// The export's shape.
    pub layout: Layout,
    /// The job's key, written into each marker.
    pub job: String,
    /// The model's SHA-256, written into each file.
    pub model_sha256: String,
}

/// One column's rows: little-endian numbers, row-major, as they go to the file.
#[derive(Debug)]
struct ColumnBuffer {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

/// The rows of one shard, preallocated. Announce rows ([`ShardBuffer::push_row`]), [`ShardBuffer::put`] their
/// activations in any order, [`ShardBuffer::finish`], [`ShardBuffer::clear`].
#[derive(Debug)]
pub struct ShardBuffer {
    columns: Vec<Column>,
    dtype: ActDtype,
    capacity: usize,
    rows: RowIds,
    buffers: Vec<ColumnBuffer>,
}

impl ShardBuffer {
    /// Room for `capacity_rows` rows of every column.
    pub fn new(columns: &[Column], dtype: ActDtype, capacity_rows: usize) -> Self {
        let buffer = |c: &Column| ColumnBuffer {
            bytes: vec![0; capacity_rows * c.width * dtype.size()],
            written: vec![false; capacity_rows],
        };
        let buffers = columns.iter().map(buffer).collect();
        Self { columns: columns.to_vec(), dtype, capacity: capacity_rows, rows: RowIds::default(), buffers }
    }

    /// Announces the next row and returns its index in the shard, for [`ShardBuffer::put`].
    ///
    /// # Errors
    /// [`StoreError::TooManyRows`] when the shard is full.
    pub fn push_row(
        &mut self,
        row_id: u64,
        doc_id: u64,
        pos: u32,
        token_id: u32,
    ) -> Result<usize, StoreError> {
        let index = self.rows.len();
        if index >= self.capacity {
            return Err(StoreError::TooManyRows { rows: index + 1, capacity: self.capacity });
        }
        self.rows.push(row_id, doc_id, pos, token_id);
        Ok(index)
    }

    /// The announced rows.
    pub fn rows(&self) -> &RowIds {
        &self.rows
    }

    /// Whether no further row fits.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.capacity
    }

    /// Copies whole rows (`values.len() / width` of them, row-major) to the rows from `first_row` on, which must be
    /// announced. One pass checks and copies.
    ///
    /// # Errors
    /// [`StoreError::NotFinite`] and [`StoreError::Overflow`] name the first offending value; [`StoreError::BadPut`].
    pub fn put(&mut self, column: usize, first_row: usize, values: &[f32]) -> Result<(), StoreError> {
        let rows = self.rows.len();
        let (Some(c), Some(buffer)) = (self.columns.get(column), self.buffers.get_mut(column)) else {
            let column = format!("column {column} of {}", self.columns.len());
            return Err(StoreError::BadPut { column, first_row, values: values.len(), width: 0, rows });
        };
        let n = values.len() / c.width;
        if !values.len().is_multiple_of(c.width) || first_row.checked_add(n).is_none_or(|end| end > rows) {
            let column = name(c);
            return Err(StoreError::BadPut { column, first_row, values: values.len(), width: c.width, rows });
        }
        let size = self.dtype.size();
        let target = &mut buffer.bytes[first_row * c.width * size..][..values.len() * size];
        let stored = match self.dtype {
            ActDtype::F32 => store_f32(values, target),
            ActDtype::F16 => store_half(values, target, ActDtype::F16, |halves: &mut [f16], from| {
                halves.convert_from_f32_slice(from);
            }),
            ActDtype::Bf16 => store_half(values, target, ActDtype::Bf16, |halves: &mut [bf16], from| {
                halves.convert_from_f32_slice(from);
            }),
        };
        stored.map_err(|block| blame((c, self.dtype), &self.rows, first_row, values, block))?;
        buffer.written[first_row..first_row + n].fill(true);
        Ok(())
    }

    /// Writes the shard: every column's file and the token table in parallel, then the marker that makes the shard
    /// count as whole. `token_text` gives the text of a token id. The buffer keeps its rows; [`ShardBuffer::clear`] it
    /// for the next shard.
    ///
    /// # Errors
    /// [`StoreError::MissingRow`] if a row was announced but not put; [`StoreError::Run`] for a failed file operation.
    pub fn finish(
        &self,
        target: &ShardTarget,
        shard: u64,
        token_text: &(dyn Fn(u32) -> String + Sync),
    ) -> Result<ShardMarker, StoreError> {
        for (column, buffer) in self.columns.iter().zip(&self.buffers) {
            if let Some(row) = buffer.written[..self.rows.len()].iter().position(|written| !written) {
                return Err(StoreError::MissingRow { column: name(column), row, shard });
            }
        }
        let files: Result<Vec<FileRecord>, StoreError> = (0..=self.columns.len())
            .into_par_iter()
            .map(|i| match i.checked_sub(1) {
                None => self.write_tokens(target, shard, token_text),
                Some(column) => self.write_column(target, shard, column),
            })
            .collect();
        let first_row_id = self.rows.row_id.first().copied().unwrap_or(0);
        let rows = self.rows.len() as u64;
        let marker = ShardMarker { shard, job: target.job.clone(), first_row_id, rows, files: files? };
        marker.write(&target.dir)?;
        Ok(marker)
    }

    /// Forgets all rows; keeps the memory.
    pub fn clear(&mut self) {
        let rows = self.rows.len();
        self.rows.clear();
        self.buffers.iter_mut().for_each(|b| b.written[..rows].fill(false));
    }

    fn write_column(&self, target: &ShardTarget, shard: u64, i: usize) -> Result<FileRecord, StoreError> {
        let column = &self.columns[i];
        let act = &self.buffers[i].bytes[..self.rows.len() * column.width * self.dtype.size()];
        let model_sha256 = &target.model_sha256;
        let acts = Acts { column, dtype: self.dtype, ids: &self.rows, act, model_sha256 };
        let relative = column.path(shard, target.layout.format);
        let path = target.dir.join(&relative);
        let ((), written) = write_atomic_sized(&path, act.len() as u64, |file| {
            format::write(target.layout.format, file, &acts).map_err(|e| StoreError::encode(&path, e))
        })?;
        Ok(record(relative, written))
    }

    fn write_tokens(
        &self,
        target: &ShardTarget,
        shard: u64,
        token_text: &(dyn Fn(u32) -> String + Sync),
    ) -> Result<FileRecord, StoreError> {
        let relative = tokens_path(shard);
        let path = target.dir.join(&relative);
        let ((), written) = write_atomic(&path, |file| {
            format::write_tokens(file, &self.rows, token_text, &target.model_sha256)
                .map_err(|e| StoreError::encode(&path, e))
        })?;
        Ok(record(relative, written))
    }
}

fn record(path: PathBuf, written: Written) -> FileRecord {
    FileRecord { path, bytes: written.bytes, xxh64: format!("{:016x}", written.xxh64) }
}

fn name(column: &Column) -> String {
    format!("hook {}, layer {}", column.hook, column.layer)
}

/// Copies while all magnitudes are below `limit` (bits of a positive f32); else the index of the first block that is
/// not. Signed comparison of the bits without the sign is the order of magnitudes, NaN on top, and vectorises
/// everywhere.
fn store_f32(values: &[f32], target: &mut [u8]) -> Result<(), usize> {
    let limit = f32::INFINITY.to_bits().cast_signed();
    for (i, (from, to)) in values.chunks(BLOCK).zip(target.chunks_mut(4 * BLOCK)).enumerate() {
        let mut bad = false;
        for (x, y) in from.iter().zip(to.as_chunks_mut::<4>().0) {
            bad |= magnitude(*x) >= limit;
            *y = x.to_le_bytes();
        }
        if bad {
            return Err(i * BLOCK);
        }
    }
    Ok(())
}

/// As [`store_f32`], rounding to a half type with `round`.
fn store_half<H: Copy + Default + ToBits>(
    values: &[f32],
    target: &mut [u8],
    dtype: ActDtype,
    round: impl Fn(&mut [H], &[f32]),
) -> Result<(), usize> {
    let limit = magnitude(dtype.overflow());
    let mut halves = [H::default(); BLOCK];
    for (i, (from, to)) in values.chunks(BLOCK).zip(target.chunks_mut(2 * BLOCK)).enumerate() {
        if from.iter().fold(false, |bad, x| bad | (magnitude(*x) >= limit)) {
            return Err(i * BLOCK);
        }
        let halves = &mut halves[..from.len()];
        round(halves, from);
        for (x, y) in halves.iter().zip(to.as_chunks_mut::<2>().0) {
            *y = x.bytes();
        }
    }
    Ok(())
}

/// A number of two bytes.
trait ToBits {
    /// Little-endian.
    fn bytes(self) -> [u8; 2];
}

impl ToBits for f16 {
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

impl ToBits for bf16 {
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

fn magnitude(x: f32) -> i32 {
    (x.to_bits() & 0x7fff_ffff).cast_signed()
}

/// Finds the first value, from `block` on, that made a copy fail.
fn blame(
    (c, dtype): (&Column, ActDtype),
    rows: &RowIds,
    first_row: usize,
    values: &[f32],
    block: usize,
) -> StoreError {
    let bad = |x: &f32| magnitude(*x) >= magnitude(dtype.overflow());
    let not_finite = values[block..].iter().take(BLOCK).position(|x| !x.is_finite());
    let at = block + not_finite.or(values[block..].iter().position(bad)).unwrap_or(0);
    let row = first_row + at / c.width;
    let (hook, layer, doc_id, pos, value) =
        (c.hook.clone(), c.layer, rows.doc_id[row], rows.pos[row], values[at]);
    if value.is_finite() {
        StoreError::Overflow { hook, layer, doc_id, pos, value, dtype }
    } else {
        StoreError::NotFinite { hook, layer, doc_id, pos, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(dtype: ActDtype) -> ShardBuffer {
        let column =
            Column { hook: "mlp_out".into(), point: "blocks.5.hook_mlp_out".into(), layer: 5, width: 1500 };
        let mut b = ShardBuffer::new(&[column], dtype, 4);
        for pos in 0..3 {
            b.push_row(pos, 7, 10 + pos as u32, 0).unwrap();
        }
        b
    }

    #[test]
    fn nan_and_overflow_are_named() {
        for (value, dtype, says) in [
            (f32::NAN, ActDtype::F32, "activation is NaN at hook mlp_out, layer 5, document 7, position 11"),
            (
                f32::NEG_INFINITY,
                ActDtype::F16,
                "activation is -inf at hook mlp_out, layer 5, document 7, position 11",
            ),
            (-65520.0, ActDtype::F16, "activation -65520 does not fit f16 (largest 65504)"),
            (
                f32::MAX,
                ActDtype::Bf16,
                "activation 340282350000000000000000000000000000000 does not fit bf16",
            ),
            (f32::INFINITY, ActDtype::Bf16, "activation is inf at hook mlp_out"),
        ] {
            let mut values = vec![1.0; 3000];
            values[2999] = value;
            let message = buffer(dtype).put(0, 0, &values).unwrap_err().to_string();
            assert!(message.starts_with(says), "{message}");
            values[2999] = 65519.0;
            buffer(dtype).put(0, 0, &values).unwrap();
        }
    }

    #[test]
    fn rows_must_be_announced_and_complete() {
        let mut b = buffer(ActDtype::F32);
        for (column, first, n) in [(0, 0, 1499), (0, 3, 1500), (0, 0, 6000), (0, usize::MAX, 1500), (1, 0, 0)]
        {
            assert!(
                matches!(b.put(column, first, &vec![0.0; n]), Err(StoreError::BadPut { .. })),
                "{column} {first} {n}"
            );
        }
        b.put(0, 1, &vec![0.0; 3000]).unwrap();
        let layout = Layout {
            columns: b.columns.clone(),
            dtype: ActDtype::F32,
            format: crate::states::store::Format::Npy,
            shard_rows: 4,
            planned_rows: None,
        };
        let target =
            ShardTarget { dir: "unused".into(), layout, job: String::new(), model_sha256: String::new() };
        let missing = b.finish(&target, 2, &|_| String::new()).unwrap_err().to_string();
        assert_eq!(missing, "hook mlp_out, layer 5: row 0 of shard 2 was never written");
        b.push_row(3, 8, 0, 0).unwrap();
        assert!(b.is_full() && matches!(b.push_row(4, 8, 1, 0), Err(StoreError::TooManyRows { .. })));
    }
}
