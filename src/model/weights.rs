//! safetensors by memory map: one tensor at a time, so that peak memory stays near one copy of the model.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use safetensors::{Dtype, SafeTensors, tensor::Metadata};
use tch::{Device, Kind, Tensor};

use super::{ModelError, nn::wide, weight_files};

/// The weights of a model folder, `model.safetensors` or a sharded index, by tensor name.
#[derive(Debug)]
pub struct Weights {
    dir: PathBuf,
    tensors: HashMap<String, Entry>,
    kind: Kind,
    device: Device,
}

#[derive(Debug, Clone)]
struct Entry {
    file: PathBuf,
    start: u64,
    len: usize,
    shape: Vec<i64>,
    dtype: Dtype,
}

impl Weights {
    /// Reads the headers of the weights in `dir`; tensors will be taken as `kind` on `device`.
    ///
    /// # Errors
    /// When there are no safetensors, an index names a file outside the folder, or a file is not whole.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let mut tensors = HashMap::new();
        for file in weight_files(dir)? {
            read_header(&file, &mut tensors)?;
        }
        Ok(Self { dir: dir.to_owned(), tensors, kind, device })
    }

    /// Opens one safetensors file, for example of reference activations.
    ///
    /// # Errors
    /// When the file is not whole or not safetensors.
    pub fn open_file(file: &Path, kind: Kind) -> Result<Self, ModelError> {
        let mut tensors = HashMap::new();
        read_header(file, &mut tensors)?;
        Ok(Self { dir: file.to_owned(), tensors, kind, device: Device::Cpu })
    }

    /// Whether a tensor of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names and shapes of everything there.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.shape.as_slice()))
    }

    /// The number type most of the weights are stored in, and how many numbers there are.
    pub fn stored(&self) -> (Option<Kind>, u64) {
        let mut counts: HashMap<&str, (u64, Kind)> = HashMap::new();
        for entry in self.tensors.values() {
            if let Some((name, kind)) = float_kind(entry.dtype) {
                let n: i64 = entry.shape.iter().product();
                counts.entry(name).or_insert((0, kind)).0 += n as u64;
            }
        }
        let total = counts.values().map(|(n, _)| n).sum();
        (counts.into_values().max_by_key(|(n, _)| *n).map(|(_, kind)| kind), total)
    }

    /// The tensor `name`, which must have `shape`, as the number type and on the device asked for.
    ///
    /// # Errors
    /// When it is missing, has another shape or a type that is no float, or holds a NaN or infinite value.
    pub fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ModelError> {
        let entry = self.entry(name)?;
        if float_kind(entry.dtype).is_none() {
            let (path, dtype) = (entry.file.clone(), format!("{:?}", entry.dtype));
            return Err(ModelError::TensorType { name: name.into(), path, dtype });
        }
        if entry.shape != shape {
            let (expected, got) = (shape.to_vec(), entry.shape.clone());
            return Err(ModelError::TensorShape {
                name: name.into(),
                path: entry.file.clone(),
                expected,
                got,
            });
        }
        let tensor = self.read(name, entry)?;
        // One infinite or NaN value makes the sum so; huge but finite values may too, hence the second look.
        let suspicious = !tensor.f_sum(wide(tensor.kind()))?.double_value(&[]).is_finite();
        if suspicious && tensor.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
            return Err(ModelError::NotFinite { name: name.into(), path: entry.file.clone() });
        }
        Ok(tensor)
    }

    /// The tensor `name` with whatever shape and values it has.
    ///
    /// # Errors
    /// When it is missing or has a type this program does not read.
    pub fn take_any(&self, name: &str) -> Result<Tensor, ModelError> {
        self.read(name, self.entry(name)?)
    }

    /// Whether two tensors are the same numbers in the same type, bit for bit.
    ///
    /// # Errors
    /// When one is missing, or its file cannot be read.
    pub fn same(&self, a: &str, b: &str) -> Result<bool, ModelError> {
        let (a, b) = (self.entry(a)?, self.entry(b)?);
        if (&a.shape, a.dtype) != (&b.shape, b.dtype) {
            return Ok(false);
        }
        // An empty range cannot be mapped.
        if a.len == 0 {
            return Ok(true);
        }
        Ok(*map(&a.file, a.start, Some(a.len))? == *map(&b.file, b.start, Some(b.len))?)
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ModelError::MissingTensor { name: name.into(), path: self.dir.clone() })
    }

    /// Copies one tensor out of its file; the map ends with this call, and its pages with it.
    fn read(&self, name: &str, entry: &Entry) -> Result<Tensor, ModelError> {
        let stored = match (float_kind(entry.dtype), entry.dtype) {
            (Some((_, kind)), _) => kind,
            (None, Dtype::I64) => Kind::Int64,
            (None, other) => {
                let (name, path) = (name.to_owned(), entry.file.clone());
                return Err(ModelError::TensorType { name, path, dtype: format!("{other:?}") });
            }
        };
        if entry.len == 0 {
            return Ok(Tensor::f_zeros(&entry.shape, (self.kind, self.device))?);
        }
        let bytes = map(&entry.file, entry.start, Some(entry.len))?;
        let raw = Tensor::f_from_data_size(&bytes, &entry.shape, stored)?;
        let kind = if stored == Kind::Int64 { stored } else { self.kind };
        Ok(raw.f_to_kind(kind)?.f_to_device(self.device)?)
    }
}

/// Maps `len` bytes of a file from `start` on, or all of it.
#[allow(unsafe_code)]
fn map(path: &Path, start: u64, len: Option<usize>) -> Result<Mmap, ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mut options = MmapOptions::new();
    options.offset(start);
    if let Some(len) = len {
        options.len(len);
    }
    // SAFETY: the map is read-only and private to one call of this module, which copies what it needs as numbers of
    // which every bit pattern is valid; ranges were checked against the file's length when its header was read.
    // Someone who truncates the file meanwhile ends the process (SIGBUS), as with every reader by memory map.
    unsafe { options.map(&file) }.map_err(io)
}

fn float_kind(dtype: Dtype) -> Option<(&'static str, Kind)> {
    match dtype {
        Dtype::F32 => Some(("f32", Kind::Float)),
        Dtype::F16 => Some(("f16", Kind::Half)),
        Dtype::BF16 => Some(("bf16", Kind::BFloat16)),
        Dtype::F64 => Some(("f64", Kind::Double)),
        _ => None,
    }
}

/// Adds every tensor of one file.
fn read_header(path: &Path, tensors: &mut HashMap<String, Entry>) -> Result<(), ModelError> {
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
        let shape = info.shape.iter().map(|&n| n as i64).collect();
        let entry = Entry {
            file: path.to_owned(),
            start: data + start as u64,
            len: end - start,
            shape,
            dtype: info.dtype,
        };
        tensors.insert(name, entry);
    }
    Ok(())
}
