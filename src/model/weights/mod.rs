//! Weights by memory map, from whatever files they are in: one tensor at a time, so that peak memory stays near one
//! copy of the model.

mod entry;
mod gguf;
mod packed;
mod pickle;
mod safetensors;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use entry::Entry;
pub(super) use entry::map;
use tch::{Device, Kind, Tensor};

use super::{ModelError, files::WeightFormat, nn::wide, packing::Packing, weight_files};

type Table = HashMap<String, Entry>;

/// The weights of a model, by tensor name.
#[derive(Debug)]
pub struct Weights {
    dir: PathBuf,
    tensors: Table,
    kind: Kind,
    device: Device,
}

/// How many tensors and numbers are stored in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredAs {
    /// Tensors.
    pub tensors: u64,
    /// Numbers in them.
    pub numbers: u64,
}

impl Weights {
    /// Reads the headers of the weights in `dir`; tensors will be taken as `kind` on `device`.
    ///
    /// # Errors
    /// When there are no weights, an index names a file outside the folder, or a file is not whole.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let mut tensors = Table::new();
        for file in weight_files(dir)? {
            match WeightFormat::of(&file) {
                WeightFormat::Safetensors => safetensors::read_table(&file, &mut tensors)?,
                WeightFormat::Gguf => gguf::read_table(&file, &mut tensors)?,
                WeightFormat::Pickle => pickle::read_table(&file, &mut tensors)?,
            }
        }
        if let Some(packing) = Packing::read(dir) {
            packed::pack(&mut tensors, packing);
            if !tensors.values().any(|entry| entry.coding.is_packed()) {
                let reason =
                    "`quantization_config` says that weights have few bits, but none is stored so".into();
                return Err(ModelError::Config { path: dir.join("config.json"), reason });
            }
        }
        Ok(Self { dir: dir.to_owned(), tensors, kind, device })
    }

    /// Opens one safetensors file, for example of reference activations.
    ///
    /// # Errors
    /// When the file is not whole or not safetensors.
    pub fn open_file(file: &Path, kind: Kind) -> Result<Self, ModelError> {
        let mut tensors = Table::new();
        safetensors::read_table(file, &mut tensors)?;
        Ok(Self { dir: file.to_owned(), tensors, kind, device: Device::Cpu })
    }

    /// Whether a tensor of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What tensors are made into, and where.
    pub(super) fn options(&self) -> (Kind, Device) {
        (self.kind, self.device)
    }

    /// Names and shapes of everything there.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.shape.as_slice()))
    }

    /// How the tensors are stored, by the name of the type.
    pub fn types(&self) -> BTreeMap<String, StoredAs> {
        let mut types = BTreeMap::<String, StoredAs>::new();
        for entry in self.tensors.values() {
            let one = types.entry(entry.coding.name()).or_default();
            one.tensors += 1;
            one.numbers += entry.shape.iter().product::<i64>() as u64;
        }
        types
    }

    /// Whether some tensors have to be made into floats.
    pub fn quantised(&self) -> bool {
        self.tensors.values().any(|entry| entry.coding.is_packed())
    }

    /// The number type most of the weights are stored in, and how many numbers there are.
    pub fn stored(&self) -> (Option<Kind>, u64) {
        let mut counts: Vec<(Kind, u64)> = Vec::new();
        for entry in self.tensors.values() {
            let Some(kind) = entry.coding.float() else { continue };
            let n = entry.shape.iter().product::<i64>() as u64;
            match counts.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, count)) => *count += n,
                None => counts.push((kind, n)),
            }
        }
        let total = counts.iter().map(|(_, n)| n).sum();
        (counts.into_iter().max_by_key(|(_, n)| *n).map(|(kind, _)| kind), total)
    }

    /// The tensor `name`, which must have `shape`, as the number type and on the device asked for.
    ///
    /// # Errors
    /// When it is missing, has another shape or a type that is no float, or holds a NaN or infinite value.
    pub fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ModelError> {
        self.check(name, shape)?;
        let entry = self.entry(name)?;
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

    /// Whether [`Weights::take`] would find the tensor `name` of `shape`; reads no numbers.
    ///
    /// # Errors
    /// When it is missing, has another shape, or a type that is no float.
    pub fn check(&self, name: &str, shape: &[i64]) -> Result<(), ModelError> {
        let entry = self.entry(name)?;
        if entry.coding.float().is_none() {
            return Err(entry.unread(name));
        }
        if entry.shape == shape {
            return Ok(());
        }
        let (expected, got) = (shape.to_vec(), entry.shape.clone());
        Err(ModelError::TensorShape { name: name.into(), path: entry.file.clone(), expected, got })
    }

    /// Whether two tensors are the same numbers in the same type, bit for bit.
    ///
    /// # Errors
    /// When one is missing, or its file cannot be read.
    pub fn same(&self, a: &str, b: &str) -> Result<bool, ModelError> {
        let (a, b) = (self.entry(a)?, self.entry(b)?);
        if (&a.shape, &a.coding, a.paired_heads) != (&b.shape, &b.coding, b.paired_heads) {
            return Ok(false);
        }
        // An empty range cannot be mapped.
        let same_place = (&a.file, a.start) == (&b.file, b.start);
        Ok(same_place || a.len == b.len && (a.len == 0 || *a.bytes()? == *b.bytes()?))
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ModelError::MissingTensor { name: name.into(), path: self.dir.clone() })
    }

    /// One tensor in the type and on the device asked for; whole numbers keep their type.
    fn read(&self, name: &str, entry: &Entry) -> Result<Tensor, ModelError> {
        let raw = entry.read(name)?;
        let kind = match raw.kind() {
            Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double => self.kind,
            Kind::Int64 => Kind::Int64,
            _ => return Err(entry.unread(name)),
        };
        Ok(raw.f_to_kind(kind)?.f_to_device(self.device)?)
    }
}
