//! Where one tensor is, and how its bytes are numbers.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use tch::{Kind, Tensor};

use crate::model::ModelError;

/// One tensor of a file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) file: PathBuf,
    /// Its first byte.
    pub(super) start: u64,
    /// Bytes from there to its end.
    pub(super) len: usize,
    pub(super) shape: Vec<i64>,
    pub(super) coding: Coding,
}

/// How bytes are numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Coding {
    /// One after another.
    Plain(Kind),
    /// With these steps between them (a view in a file of `torch.save`).
    Strided(Kind, Vec<i64>),
    /// In a way that is not read here; its name.
    Unknown(String),
}

impl Coding {
    /// The float type that the numbers are stored in, if they are floats.
    pub(super) fn float(&self) -> Option<Kind> {
        match self {
            Self::Plain(kind) | Self::Strided(kind, _) => is_float(*kind).then_some(*kind),
            Self::Unknown(_) => None,
        }
    }

    /// Its name, as files spell it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Plain(kind) | Self::Strided(kind, _) => kind_name(*kind).into(),
            Self::Unknown(name) => name.clone(),
        }
    }
}

impl Entry {
    /// The bytes; the map's pages are given back when it is dropped.
    pub(super) fn bytes(&self) -> Result<Mmap, ModelError> {
        map(&self.file, self.start, Some(self.len))
    }

    /// Copies the tensor out of its file, as it is stored.
    pub(super) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let (kind, stride) = match &self.coding {
            Coding::Plain(kind) => (*kind, None),
            Coding::Strided(kind, stride) => (*kind, Some(stride)),
            Coding::Unknown(_) => return Err(self.unread(name)),
        };
        if self.len == 0 {
            return Ok(Tensor::f_zeros(&self.shape, (kind, tch::Device::Cpu))?);
        }
        let bytes = self.bytes()?;
        let Some(stride) = stride else { return Ok(Tensor::f_from_data_size(&bytes, &self.shape, kind)?) };
        let flat = Tensor::f_from_data_size(&bytes, &[(self.len / kind.elt_size_in_bytes()) as i64], kind)?;
        Ok(flat.f_as_strided(&self.shape, stride, 0)?.f_contiguous()?)
    }

    /// The error of a type that is not read here.
    pub(super) fn unread(&self, name: &str) -> ModelError {
        ModelError::TensorType { name: name.into(), path: self.file.clone(), dtype: self.coding.name() }
    }
}

/// Maps `len` bytes of a file from `start` on, or all of it.
#[allow(unsafe_code)]
pub(super) fn map(path: &Path, start: u64, len: Option<usize>) -> Result<Mmap, ModelError> {
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

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "F32",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Double => "F64",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Int16 => "I16",
        Kind::Int8 => "I8",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => "unknown",
    }
}
