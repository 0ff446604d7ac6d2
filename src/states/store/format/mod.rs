//! The file formats of activations: one small file per format, all fed with the same bytes.

mod arrow_ipc;
mod leaf;
pub(super) mod npy;
mod page;
mod parquet;
mod safetensors;

use std::io::Write;

use arrow::array::{Array, AsArray as _};
use arrow::datatypes::{Float16Type, Float32Type};
use bytes::Bytes;
use half::{bf16, f16};

use super::{ActDtype, Column, Format, RowIds};
use crate::sources::text::guard::quietly;

pub(crate) use parquet::write_tokens;

/// Any format's trouble; the caller adds the file's name.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One column of one shard on its way to a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acts<'a> {
    pub(crate) column: &'a Column,
    pub(crate) dtype: ActDtype,
    pub(crate) ids: &'a RowIds,
    /// Little-endian numbers, row-major `[rows, width]`.
    pub(crate) act: &'a [u8],
    pub(crate) model_sha256: &'a str,
}

impl Acts<'_> {
    /// Bytes per row of activations.
    fn row_bytes(&self) -> usize {
        self.column.width * self.dtype.size()
    }

    fn metadata(&self) -> Vec<(String, String)> {
        super::schema::metadata(Some(self.column), self.dtype, self.model_sha256)
    }
}

/// Writes one file.
pub(crate) fn write(format: Format, out: &mut (impl Write + Send), acts: &Acts<'_>) -> Result<(), BoxError> {
    match format {
        Format::Parquet => parquet::write(out, acts),
        Format::Arrow => arrow_ipc::write(out, acts),
        Format::Npy => npy::write(out, acts),
        Format::Safetensors => safetensors::write(out, acts),
    }
}

/// Reads the activations of one file into `out` (`[rows, width]`, row-major), f16 widened. `out`'s length is the
/// expected one.
pub(crate) fn read(
    format: Format,
    file: Bytes,
    width: usize,
    dtype: ActDtype,
    out: &mut [f32],
) -> Result<(), BoxError> {
    let read = || match format {
        Format::Parquet => parquet::read(file, width, dtype, out),
        Format::Arrow => arrow_ipc::read(&file, width, dtype, out),
        Format::Npy => npy::read(&file, width, dtype, out),
        Format::Safetensors => safetensors::read(&file, width, dtype, out),
    };
    // The libraries panic on some damaged files.
    quietly(read).unwrap_or_else(|panic| Err(panic.into()))
}

/// Reads the ids of a token table.
pub(crate) fn read_tokens(file: Bytes) -> Result<(RowIds, Vec<String>), BoxError> {
    quietly(|| parquet::read_tokens(file)).unwrap_or_else(|panic| Err(panic.into()))
}

/// The rows of a file on their way into memory, a batch at a time.
struct Rows<'a> {
    dtype: ActDtype,
    rest: &'a mut [f32],
}

impl<'a> Rows<'a> {
    fn new(dtype: ActDtype, out: &'a mut [f32]) -> Self {
        Self { dtype, rest: out }
    }

    /// Takes in the numbers of a batch, an array of this dtype.
    fn put(&mut self, values: &dyn Array) -> Result<(), BoxError> {
        let rest = std::mem::take(&mut self.rest);
        let (to, rest) = rest.split_at_mut_checked(values.len()).ok_or("more rows than the marker says")?;
        match self.dtype {
            ActDtype::F32 | ActDtype::Bf16 => {
                to.copy_from_slice(values.as_primitive::<Float32Type>().values());
            }
            ActDtype::F16 => {
                let halves = values.as_primitive::<Float16Type>().values();
                to.iter_mut().zip(halves.iter()).for_each(|(x, h)| *x = h.to_f32());
            }
        }
        self.rest = rest;
        Ok(())
    }

    /// All rows must have come.
    fn finish(self) -> Result<(), BoxError> {
        if self.rest.is_empty() { Ok(()) } else { Err("fewer rows than the marker says".into()) }
    }
}

/// The bytes of bf16 as those of the same numbers in f32.
fn widened(bytes: &[u8]) -> Vec<u8> {
    bytes.as_chunks::<2>().0.iter().flat_map(|[low, high]| [0, 0, *low, *high]).collect()
}

/// Little-endian numbers to f32.
fn widen(bytes: &[u8], dtype: ActDtype, out: &mut [f32]) -> Result<(), BoxError> {
    if bytes.len() != out.len() * dtype.size() {
        return Err(format!("{} bytes of numbers, expected {}", bytes.len(), out.len() * dtype.size()).into());
    }
    match dtype {
        ActDtype::F32 => {
            bytes.as_chunks::<4>().0.iter().zip(out).for_each(|(b, x)| *x = f32::from_le_bytes(*b));
        }
        ActDtype::F16 => {
            bytes.as_chunks::<2>().0.iter().zip(out).for_each(|(b, x)| *x = f16::from_le_bytes(*b).to_f32());
        }
        ActDtype::Bf16 => {
            bytes.as_chunks::<2>().0.iter().zip(out).for_each(|(b, x)| *x = bf16::from_le_bytes(*b).to_f32());
        }
    }
    Ok(())
}
