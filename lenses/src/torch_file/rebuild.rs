//! From a description and a storage to a tensor.

use std::collections::HashMap;

use tch::{Device, Tensor};

use super::archive::Archive;
use super::machine::{StorageSpec, TensorSpec};
use super::{Placed, TorchFileError};

const MAX_DIMS: usize = 16;
/// How much larger than the file the tensors may be together: several of them may share one storage.
const MAX_GROWTH: u64 = 8;

/// The storages of a file, each read once.
pub(super) struct Storages<'a, 'b> {
    archive: &'a mut Archive<'b>,
    read: HashMap<String, Vec<u8>>,
    /// Bytes that storages not yet read may have: entries of a zip can overlap, honest ones do not.
    storage_left: u64,
    /// Bytes that tensors not yet built may have.
    tensor_left: u64,
}

impl<'a, 'b> Storages<'a, 'b> {
    pub(super) fn new(archive: &'a mut Archive<'b>, file_bytes: u64) -> Self {
        let tensor_left = file_bytes.saturating_mul(MAX_GROWTH);
        Self { archive, read: HashMap::new(), storage_left: file_bytes, tensor_left }
    }

    /// The tensor `name`, as a contiguous copy.
    pub(super) fn tensor(&mut self, name: &str, spec: &TensorSpec<'_>) -> Result<Tensor, TorchFileError> {
        let StorageSpec { kind, numel, .. } = spec.storage;
        let bad = |reason: String| TorchFileError::Tensor { name: name.into(), reason };
        let elements = check(spec).map_err(bad)?;
        let bytes = elements as u64 * kind.elt_size_in_bytes() as u64;
        self.tensor_left = self
            .tensor_left
            .checked_sub(bytes)
            .ok_or_else(|| bad("the tensors together are much larger than the file".into()))?;
        let storage = self.storage(spec.storage.key)?;
        let wanted = (numel as usize).checked_mul(kind.elt_size_in_bytes());
        if wanted != Some(storage.len()) {
            let (key, got) = (spec.storage.key, storage.len());
            return Err(bad(format!(
                "storage {key:?}: {numel} numbers of {kind:?} expected, {got} bytes found"
            )));
        }
        if elements == 0 {
            return Ok(Tensor::f_zeros(&spec.size, (kind, Device::Cpu))?);
        }
        let flat = Tensor::f_from_data_size(storage, &[numel], kind)?;
        let view = flat.f_as_strided(&spec.size, &spec.stride, spec.offset)?;
        Ok(if elements == numel { view.f_contiguous()? } else { compact(&view)? })
    }

    fn storage(&mut self, key: &str) -> Result<&[u8], TorchFileError> {
        if !self.read.contains_key(key) {
            let bytes = self.archive.storage(key, self.storage_left)?;
            self.storage_left -= bytes.len() as u64;
            self.read.insert(key.to_owned(), bytes);
        }
        Ok(&self.read[key])
    }
}

/// Where the tensor `name` is in the file.
pub(super) fn place(
    archive: &mut Archive<'_>,
    name: &str,
    spec: &TensorSpec<'_>,
) -> Result<Placed, TorchFileError> {
    let StorageSpec { kind, numel, key } = spec.storage;
    let bad = |reason: String| TorchFileError::Tensor { name: name.into(), reason };
    let elements = check(spec).map_err(bad)?;
    let (start, bytes) = archive.place(key)?;
    let width = kind.elt_size_in_bytes();
    if (numel as u64).checked_mul(width as u64) != Some(bytes) {
        return Err(bad(format!(
            "storage {key:?}: {numel} numbers of {kind:?} expected, {bytes} bytes found"
        )));
    }
    let (size, stride) = (spec.size.clone(), spec.stride.clone());
    if elements == 0 {
        return Ok(Placed { name: name.into(), kind, start, len: 0, size, stride });
    }
    // Checked above: the last number lies inside the storage.
    let reach: i64 = size.iter().zip(&stride).map(|(d, s)| (d - 1) * s).sum();
    let start = start + spec.offset as u64 * width as u64;
    Ok(Placed { name: name.into(), kind, start, len: (reach as usize + 1) * width, size, stride })
}

/// A copy that does not keep the whole storage alive.
fn compact(view: &Tensor) -> Result<Tensor, TorchFileError> {
    let mut copy = Tensor::f_zeros(view.size(), (view.kind(), Device::Cpu))?;
    copy.f_copy_(view)?;
    Ok(copy)
}

/// Number of elements, when every one of them lies inside the storage and there are not more than it has.
fn check(spec: &TensorSpec<'_>) -> Result<i64, String> {
    let TensorSpec { storage, offset, size, stride } = spec;
    let numel = storage.numel;
    if size.len() != stride.len() || size.len() > MAX_DIMS {
        return Err(format!("shape {size:?} and strides {stride:?} do not fit each other"));
    }
    if numel < 0 || *offset < 0 || size.iter().chain(stride).any(|n| *n < 0) {
        return Err(format!("negative number in shape {size:?}, strides {stride:?}, offset {offset}"));
    }
    let beyond =
        || format!("shape {size:?}, strides {stride:?}, offset {offset} reach beyond {numel} numbers");
    let product = |n: i64, d: &i64| n.checked_mul(*d);
    // Dimensions of size zero come with any other, also ones whose product would overflow.
    let elements =
        if size.contains(&0) { Some(0) } else { size.iter().try_fold(1, product) }.ok_or_else(beyond)?;
    if elements == 0 {
        let extent = size.iter().filter(|d| **d > 0).try_fold(1, product);
        return extent.map(|_| 0).ok_or_else(beyond);
    }
    let last = size
        .iter()
        .zip(stride)
        .try_fold(*offset, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?))
        .ok_or_else(beyond)?;
    if last >= numel || elements > numel { Err(beyond()) } else { Ok(elements) }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn reach_by_hand() {
        let reach = |numel, offset, size: &[i64], stride: &[i64]| {
            let storage = StorageSpec { key: "0", kind: Kind::Float, numel };
            check(&TensorSpec { storage, offset, size: size.to_vec(), stride: stride.to_vec() }).ok()
        };
        assert_eq!(reach(6, 0, &[2, 3], &[3, 1]), Some(6));
        assert_eq!(reach(6, 0, &[3, 2], &[1, 3]), Some(6)); // transposed
        assert_eq!(reach(6, 1, &[2, 3], &[3, 1]), None); // one beyond
        assert_eq!(reach(6, 5, &[], &[]), Some(1)); // scalar
        assert_eq!(reach(6, 6, &[], &[]), None);
        assert_eq!(reach(1, 0, &[2], &[0]), None); // expanded
        assert_eq!(reach(0, 0, &[0, 3], &[3, 1]), Some(0));
        assert_eq!(reach(6, 0, &[0, i64::MAX, 4], &[1, 1, 1]), None);
        assert_eq!(reach(6, 0, &[2], &[-1]), None);
        assert_eq!(reach(6, 0, &[-2], &[1]), None);
        assert_eq!(reach(6, i64::MAX, &[2], &[1]), None);
        assert_eq!(reach(6, 0, &[2, 2], &[i64::MAX, i64::MAX]), None);
        assert_eq!(reach(i64::MAX, 0, &[1 << 32, 1 << 32], &[0, 0]), None);
    }
}
