//! `params.pt`, `pytorch_model.bin`: dictionaries of tensors as `torch.save` writes them, read without running
//! anything.
//!
//! Such a file is a zip of stored entries: `NAME/data.pkl`, a pickle that says which tensors there are, and one
//! `NAME/data/KEY` per storage with the raw numbers. A pickle is a program. The machine here knows only the opcodes and
//! the few names that a dictionary of tensors needs, calls nothing by name, and refuses everything else.

mod archive;
mod error;
mod item;
mod machine;
mod pickle;
mod rebuild;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;

use tch::{Kind, Tensor};

use self::{archive::Archive, machine::TensorSpec, rebuild::Storages};
pub use self::{
    error::TorchFileError,
    item::{Item, Key, read_items},
    write::{write, write_items},
};

/// Reads the tensors of a `torch.save` file, in its order, as contiguous CPU tensors of the type they were stored in
/// (f64, f32, f16 or bf16), whatever device they came from. The `_metadata` of a state dict is skipped.
///
/// # Errors
/// When the bytes are not such a file, name anything but tensors, or a tensor reaches outside its storage.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, TorchFileError> {
    let tensors = read_numbers(bytes)?;
    let float = |kind| matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double);
    match tensors.iter().find(|(_, tensor)| !float(tensor.kind())) {
        Some((name, tensor)) => {
            let reason = format!("{:?} is no float", tensor.kind());
            Err(TorchFileError::Tensor { name: name.clone(), reason })
        }
        None => Ok(tensors),
    }
}

/// As [`read`], of whole numbers and truth values too: token ids beside activations.
///
/// # Errors
/// As [`read`].
pub fn read_numbers(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, TorchFileError> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.pickle()?;
    let specs = distinct(machine::run(&pickle)?)?;
    let mut storages = Storages::new(&mut archive, bytes.len() as u64);
    specs.iter().map(|(name, spec)| Ok(((*name).to_owned(), storages.tensor(name, spec)?))).collect()
}

/// Where a tensor of a file is, every number of it inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its key.
    pub name: String,
    /// Its number type; also whole numbers and truth values.
    pub kind: Kind,
    /// The byte of the file at which its first number begins.
    pub start: u64,
    /// Bytes from there to the end of its last number.
    pub len: usize,
    /// Its shape.
    pub size: Vec<i64>,
    /// Steps between its numbers along each dimension.
    pub stride: Vec<i64>,
}

/// Where the tensors of a `torch.save` file are, in its order: for files that are too large to be held. Only the table
/// of contents and the pickle are read; sums of the entries are not checked.
///
/// # Errors
/// When the bytes are not such a file, name anything but tensors, or a tensor reaches outside its storage.
pub fn table(bytes: &[u8]) -> Result<Vec<Placed>, TorchFileError> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.pickle()?;
    let specs = distinct(machine::run(&pickle)?)?;
    specs.iter().map(|(name, spec)| rebuild::place(&mut archive, name, spec)).collect()
}

/// The same tensors, when no name is there twice.
fn distinct<'a>(
    specs: Vec<(&'a str, TensorSpec<'a>)>,
) -> Result<Vec<(&'a str, TensorSpec<'a>)>, TorchFileError> {
    let mut seen = HashSet::new();
    match specs.iter().find(|(name, _)| !seen.insert(*name)) {
        Some((name, _)) => {
            Err(TorchFileError::Tensor { name: (*name).into(), reason: "appears twice".into() })
        }
        None => Ok(specs),
    }
}
