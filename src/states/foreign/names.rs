//! Files of named tensors, and the names of token ids in them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use flate2::read::DeflateDecoder;
use tch::{Kind, Tensor};

use super::ForeignError;
use crate::lenses::torch_file;

/// Tensors by name, in no order that means anything.
pub(super) type Tensors = Vec<(String, Tensor)>;

/// What token ids are called; last what TransformerLens' cache has from version 3 on.
pub(super) const IDS: [&str; 5] = ["token_ids", "input_ids", "tokens", "ids", "embed.hook_in"];

/// What tells tokens from padding.
pub(super) const MASK: &str = "attention_mask";

/// The files that [`read`] reads for a path.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, ForeignError> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(ForeignError::io(path))? {
        let file = entry.map_err(ForeignError::io(path))?.path();
        if file.extension().is_some_and(|end| end == "npy") {
            all.push(file);
        }
    }
    all.sort();
    if all.is_empty() { Err(ForeignError::file(path, "no .npy file is in this folder")) } else { Ok(all) }
}

/// Every tensor of a file, or of the .npy files of a folder under their names.
pub(super) fn read(path: &Path) -> Result<Tensors, ForeignError> {
    if path.is_dir() {
        return files(path)?.iter().map(|file| npy(file)).collect();
    }
    let wrong = |why: tch::TchError| ForeignError::file(path, first_line(&why));
    match path.extension().and_then(|end| end.to_str()).unwrap_or_default() {
        "safetensors" => Tensor::read_safetensors(path).map_err(wrong),
        "npy" => Ok(vec![npy(path)?]),
        "npz" => npz(path),
        "pt" | "pth" => {
            let bytes = fs::read(path).map_err(ForeignError::io(path))?;
            torch_file::read_numbers(&bytes)
                .map_err(|source| ForeignError::Torch { path: path.into(), source })
        }
        other => Err(ForeignError::file(
            path,
            format!("`.{other}`; expected .safetensors, .npz, .npy, .pt or a folder of .npy"),
        )),
    }
}

fn npy(path: &Path) -> Result<(String, Tensor), ForeignError> {
    File::open(path).map_err(ForeignError::io(path))?;
    let tensor = Tensor::read_npy(path).map_err(|why| ForeignError::file(path, first_line(&why)))?;
    Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), tensor))
}

/// The arrays of an npz file, unpacked one after another.
fn npz(path: &Path) -> Result<Tensors, ForeignError> {
    let wrong = |why: zip::result::ZipError| ForeignError::file(path, format!("no whole npz file: {why}"));
    let mut archive =
        zip::ZipArchive::new(File::open(path).map_err(ForeignError::io(path))?).map_err(wrong)?;
    let mut all = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index_raw(i).map_err(wrong)?;
        let name = entry.name().map_err(wrong)?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let mut spool = tempfile::NamedTempFile::new().map_err(ForeignError::io(path))?;
        let bytes = unpacked(path, &mut entry)?;
        spool.write_all(&bytes).map_err(ForeignError::io(path))?;
        let tensor = Tensor::read_npy(spool.path());
        all.push((
            name.clone(),
            tensor.map_err(|why| ForeignError::file(path, format!("{name}: {}", first_line(&why))))?,
        ));
    }
    Ok(all)
}

/// The bytes of an array, as `numpy.savez` or `numpy.savez_compressed` stored them.
fn unpacked(path: &Path, entry: &mut zip::read::ZipFile<'_, File>) -> Result<Vec<u8>, ForeignError> {
    let (size, sum, how) = (entry.size(), entry.crc32(), entry.compression());
    let mut bytes = Vec::new();
    let read = match how {
        zip::CompressionMethod::Stored => entry.take(size + 1).read_to_end(&mut bytes),
        // One byte more than there may be, so that an archive that lies about its size fills no memory.
        zip::CompressionMethod::DEFLATE => DeflateDecoder::new(entry).take(size + 1).read_to_end(&mut bytes),
        other => {
            return Err(ForeignError::file(path, format!("compressed by {other}, which numpy does not use")));
        }
    };
    read.map_err(ForeignError::io(path))?;
    let mut own = flate2::Crc::new();
    own.update(&bytes);
    if bytes.len() as u64 != size || own.sum() != sum {
        return Err(ForeignError::file(path, "no whole npz file: an array's checksum is another"));
    }
    Ok(bytes)
}

/// The tensor of the first of these names.
pub(super) fn take(tensors: &mut Tensors, names: &[&str]) -> Option<Tensor> {
    let place = names.iter().find_map(|name| tensors.iter().position(|(other, _)| other == name))?;
    Some(tensors.remove(place).1)
}

/// Token ids `[batch, pos]` of a file of their own: its only tensor, or the one under the usual name.
pub(super) fn token_ids(path: &Path) -> Result<Tensor, ForeignError> {
    let mut tensors = read(path)?;
    if let [_] = tensors.as_slice() {
        return Ok(tensors.remove(0).1);
    }
    let none = || ForeignError::file(path, format!("none of its tensors is called {}", IDS.join(", ")));
    take(&mut tensors, &IDS).ok_or_else(none)
}

/// Whole numbers `[batch, pos]`, also of one document without its batch.
pub(super) fn whole(path: &Path, name: &str, tensor: &Tensor) -> Result<Tensor, ForeignError> {
    let tensor = if tensor.dim() == 1 { tensor.f_unsqueeze(0)? } else { tensor.shallow_clone() };
    let whole = tensor.f_to_kind(Kind::Int64)?;
    let (same, shape) =
        (whole.f_to_kind(Kind::Double)?.f_eq_tensor(&tensor.f_to_kind(Kind::Double)?)?, tensor.size());
    if shape.len() != 2 || !bool::try_from(same.f_all()?)? {
        return Err(ForeignError::Shape {
            path: path.into(),
            name: name.into(),
            got: shape,
            expected: "[batch, pos] of whole numbers".into(),
        });
    }
    Ok(whole)
}

/// The names that a map gives to tensors.
pub(super) fn map(path: Option<&Path>) -> Result<BTreeMap<String, Option<String>>, ForeignError> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let text = fs::read_to_string(path).map_err(ForeignError::io(path))?;
    let wrong = |why| {
        ForeignError::file(path, format!("{why}; expected {{\"tensor\": \"blocks.0.hook_resid_pre\", …}}"))
    };
    serde_json::from_str(&text).map_err(wrong)
}

/// What libtorch says, without its stack.
pub(super) fn first_line(why: &tch::TchError) -> String {
    why.to_string().lines().next().unwrap_or_default().to_owned()
}
