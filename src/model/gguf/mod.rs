//! GGUF, the one file that llama.cpp keeps a model in: metadata, then tensors in blocks.
//!
//! ```text
//! "GGUF", version, counts │ key, type, value … │ name, shape, type, offset … │ padding │ data
//! ```
//!
//! The metadata become a `config.json` ([`config`]), the names those of transformers ([`names`]), the blocks floats
//! ([`blocks`]). The file is a stranger's: every count and length is held against what is left of it.

mod blocks;
mod config;
mod names;
mod reader;

use std::path::{Path, PathBuf};

pub(super) use blocks::Block;
use reader::Reader;

use super::ModelError;

/// What every file begins with.
const MAGIC: &[u8] = b"GGUF";
/// Where tensors begin, unless the file says otherwise: at multiples of it.
const ALIGNMENT: u64 = 32;

/// The head of a file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    metadata: Vec<(String, Meta)>,
    pub(super) tensors: Vec<TensorInfo>,
    /// The byte at which data begin.
    pub(super) data: u64,
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Meta {
    /// Any whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// Several.
    List(Vec<Meta>),
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// As torch has it, the dimension that varies fastest last.
    pub(super) shape: Vec<i64>,
    /// Number of the type.
    pub(super) kind: u32,
    /// From the beginning of the data.
    pub(super) offset: u64,
}

impl Gguf {
    /// The file that a model is, if it is one: the path itself, or the one `*.gguf` of a folder without `config.json`.
    pub fn file_of(model: &Path) -> Option<PathBuf> {
        let is_gguf = |path: &PathBuf| {
            path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) && path.is_file()
        };
        let model = model.to_owned();
        if is_gguf(&model) {
            return Some(model);
        }
        if model.join("config.json").is_file() {
            return None;
        }
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&model).ok()?.flatten().map(|entry| entry.path()).filter(is_gguf).collect();
        if files.len() == 1 { files.pop() } else { None }
    }

    /// Reads the head of a file.
    ///
    /// # Errors
    /// When it is no GGUF, is damaged, or is one part of several.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::Corrupt { path: path.to_owned(), reason };
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(io)?.len();
        if size < 24 {
            return Err(bad(format!("not a GGUF file: only {size} bytes")));
        }
        let bytes = super::weights::map(path, 0, None)?;
        let mut file = Self { path: path.to_owned(), metadata: Vec::new(), tensors: Vec::new(), data: 0 };
        file.read(&mut Reader::new(&bytes)).map_err(bad)?;
        if file.int("split.count").is_some_and(|parts| parts > 1) {
            return Err(bad("one part of several; join them with llama-gguf-split --merge".into()));
        }
        Ok(file)
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        if reader.take(4)? != MAGIC {
            return Err("not a GGUF file".into());
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version}; versions 2 and 3 are read, in little-endian order"));
        }
        let (tensors, values) = (reader.count(24)?, reader.count(12)?);
        for _ in 0..values {
            let key = reader.text()?;
            let kind = reader.u32()?;
            self.metadata.push((key, reader.value(kind, 0)?));
        }
        for _ in 0..tensors {
            self.tensors.push(reader.tensor()?);
        }
        let alignment = self.int("general.alignment").map_or(Ok(ALIGNMENT), u64::try_from);
        let alignment =
            alignment.ok().filter(|n| n.is_power_of_two()).ok_or("an alignment that is no power of two")?;
        self.data = reader.at().next_multiple_of(alignment);
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Meta> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The whole number under `key`.
    pub fn int(&self, key: &str) -> Option<i64> {
        if let Some(Meta::Int(n)) = self.get(key) { Some(*n) } else { None }
    }

    /// The text under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        if let Some(Meta::Text(text)) = self.get(key) { Some(text) } else { None }
    }

    /// The truth value under `key`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        if let Some(Meta::Bool(flag)) = self.get(key) { Some(*flag) } else { None }
    }

    /// The list of texts under `key`; none where it is not there or has something else in it.
    pub fn texts(&self, key: &str) -> Option<Vec<&str>> {
        let Some(Meta::List(list)) = self.get(key) else { return None };
        list.iter().map(|one| if let Meta::Text(text) = one { Some(text.as_str()) } else { None }).collect()
    }

    /// The list of numbers under `key`.
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        let Some(Meta::List(list)) = self.get(key) else { return None };
        let number = |one: &Meta| match one {
            Meta::Int(n) => Some(*n as f64),
            Meta::Float(x) => Some(*x),
            _ => None,
        };
        list.iter().map(number).collect()
    }

    fn has(&self, tensor: &str) -> bool {
        self.tensors.iter().any(|info| info.name == tensor)
    }
}
