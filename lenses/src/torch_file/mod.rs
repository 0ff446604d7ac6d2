//! `params.pt`: dictionaries of tensors as `torch.save` writes them, read without running anything.
//!
//! Such a file is a zip of stored entries: `NAME/data.pkl`, a pickle that says which tensors there are, and one
//! `NAME/data/KEY` per storage with the raw numbers. A pickle is a program. The machine here knows only the opcodes and
//! the seven names that a dictionary of tensors needs, calls nothing by name, and refuses everything else.

mod archive;
mod error;
mod machine;
mod pickle;
mod rebuild;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;

use tch::{Kind, Tensor};

use self::{archive::Archive, rebuild::Storages};
pub use self::{error::TorchFileError, write::write};

/// Reads the tensors of a `torch.save` file, in its order, as contiguous CPU tensors of the type they were stored in
/// (f64, f32, f16 or bf16), whatever device they came from. The `_metadata` of a state dict is skipped.
///
/// # Errors
/// When the bytes are not such a file, name anything but tensors, or a tensor reaches outside its storage.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, TorchFileError> {
    let tensors = read_numbers(bytes)?;
    match tensors.iter().find(|(_, tensor)| tensor.kind() == Kind::Int64) {
        Some((name, _)) => {
            Err(TorchFileError::Tensor { name: name.clone(), reason: "Int64 is no float".into() })
        }
        None => Ok(tensors),
    }
}

/// As [`read`], of whole numbers (i64) too: token ids beside activations.
///
/// # Errors
/// As [`read`].
pub fn read_numbers(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, TorchFileError> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.pickle()?;
    let specs = machine::run(&pickle)?;
    let mut storages = Storages::new(&mut archive, bytes.len() as u64);
    let mut seen = HashSet::new();
    specs
        .iter()
        .map(|(name, spec)| {
            if !seen.insert(*name) {
                return Err(TorchFileError::Tensor { name: (*name).into(), reason: "appears twice".into() });
            }
            Ok(((*name).to_owned(), storages.tensor(name, spec)?))
        })
        .collect()
}
