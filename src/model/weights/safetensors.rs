//! The table of a safetensors file.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::Metadata};
use tch::Kind;

use super::{
    Table,
    entry::{Coding, Entry, map},
};
use crate::model::ModelError;

/// Adds every tensor of one file.
pub(super) fn read_table(path: &Path, tensors: &mut Table) -> Result<(), ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let bad = |reason: String| ModelError::Corrupt { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size < 8 {
        return Err(bad(format!("not safetensors: only {size} bytes")));
    }
    let bytes = map(path, 0, None)?;
    let header = u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
    if header > size - 8 {
        return Err(bad(format!(
            "cut short or not safetensors: a header of {header} bytes in a file of {size}"
        )));
    }
    let (_, metadata): (usize, Metadata) = SafeTensors::read_metadata(&bytes)
        .map_err(|e| bad(format!("cut short or not safetensors ({size} bytes): {e}")))?;
    let data = 8 + header;
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let entry = Entry {
            file: path.to_owned(),
            start: data + start as u64,
            len: end - start,
            shape: info.shape.iter().map(|&n| n as i64).collect(),
            coding: coding(info.dtype),
            paired_heads: None,
        };
        tensors.insert(name, entry);
    }
    Ok(())
}

fn coding(dtype: Dtype) -> Coding {
    Coding::Plain(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => return Coding::Unknown(format!("{other:?}")),
    })
}
