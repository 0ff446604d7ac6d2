//! Where one tensor is, and how its bytes are numbers.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::packed::Packed;
use crate::model::{ModelError, gguf::Block};

/// Numbers that are made at a time.
const AT_ONCE: usize = 1 << 21;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) file: PathBuf,
    /// Its first byte.
    pub(super) start: u64,
    /// Bytes from there to its end.
    pub(super) len: usize,
    pub(super) shape: Vec<i64>,
    pub(super) coding: Coding,
    /// Heads whose rows stand in neighbouring pairs, not in halves, as llama.cpp rotates them.
    pub(super) paired_heads: Option<i64>,
}

/// How bytes are numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Coding {
    /// One after another.
    Plain(Kind),
    /// With these steps between them (a view in a file of `torch.save`).
    Strided(Kind, Vec<i64>),
    /// In blocks of few bits.
    Blocks(Block),
    /// With scales and more in other tensors.
    Packed(Box<Packed>),
    /// In a way that is not read here; its name.
    Unknown(String),
}

impl Coding {
    /// The float type that the numbers are stored in, if they are floats.
    pub(super) fn float(&self) -> Option<Kind> {
        match self {
            Self::Plain(kind) | Self::Strided(kind, _) => is_float(*kind).then_some(*kind),
            Self::Blocks(_) => Some(Kind::Float),
            Self::Packed(packed) => Some(packed.float()),
            Self::Unknown(_) => None,
        }
    }

    /// Whether the numbers have to be made from fewer bits.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self, Self::Blocks(_) | Self::Packed(_))
    }

    /// Its name, as files spell it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Plain(kind) | Self::Strided(kind, _) => kind_name(*kind).into(),
            Self::Blocks(block) => block.name().into(),
            Self::Packed(packed) => packed.name(),
            Self::Unknown(name) => name.clone(),
        }
    }
}

impl Entry {
    /// The bytes; the map's pages are given back when it is dropped.
    pub(super) fn bytes(&self) -> Result<Mmap, ModelError> {
        map(&self.file, self.start, Some(self.len))
    }

    /// Copies the tensor out of its file: as it is stored, blocks as f32.
    pub(super) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let tensor = self.stored(name)?;
        let Some(heads) = self.paired_heads else { return Ok(tensor) };
        let halves = tensor.f_view([heads, self.shape[0] / heads / 2, 2, -1])?.f_transpose(1, 2)?;
        Ok(halves.f_reshape(&self.shape)?)
    }

    fn stored(&self, name: &str) -> Result<Tensor, ModelError> {
        let (kind, stride) = match &self.coding {
            Coding::Plain(kind) => (*kind, None),
            Coding::Strided(kind, stride) => (*kind, Some(stride)),
            Coding::Blocks(block) => return self.dequantised(*block),
            Coding::Packed(packed) => return packed.read(name, self),
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

    /// Blocks as f32, some at a time: beside the file's pages there is one copy.
    fn dequantised(&self, block: Block) -> Result<Tensor, ModelError> {
        let (numbers, size) = block.size();
        let all = Tensor::f_zeros(&self.shape, (Kind::Float, tch::Device::Cpu))?;
        if self.len == 0 {
            return Ok(all);
        }
        let (flat, bytes) = (all.f_view(-1)?, self.bytes()?);
        let at_once = AT_ONCE / numbers;
        let mut out = vec![0_f32; AT_ONCE];
        for (i, part) in bytes.chunks(at_once * size).enumerate() {
            let out = &mut out[..part.len() / size * numbers];
            let some = at_once / 64;
            out.par_chunks_mut(some * numbers)
                .zip(part.par_chunks(some * size))
                .for_each(|(out, blocks)| block.dequantise(blocks, out));
            let mut place = flat.f_narrow(0, (i * AT_ONCE) as i64, out.len() as i64)?;
            place.f_copy_(&Tensor::f_from_slice(out)?)?;
        }
        Ok(all)
    }

    /// The error of a type that is not read here.
    pub(super) fn unread(&self, name: &str) -> ModelError {
        ModelError::TensorType { name: name.into(), path: self.file.clone(), dtype: self.coding.name() }
    }
}

/// Maps `len` bytes of a file from `start` on, or all of it.
#[allow(unsafe_code)]
pub(in crate::model) fn map(path: &Path, start: u64, len: Option<usize>) -> Result<Mmap, ModelError> {
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
