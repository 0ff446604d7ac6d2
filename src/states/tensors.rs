//! Named tensors in a safetensors file, written whole or not at all, with a checksum of their own: files that a killed
//! run left, and files that are copied out of their run, are in no manifest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::io::Write as _;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};
use twox_hash::XxHash64;

use crate::results::run::{RunError, write_atomic};

/// The key of the checksum among the file's metadata.
const CHECKSUM: &str = "xxh64";

/// Writes `tensors` (f64 as f64, everything else as f32) in the order of their names.
///
/// # Errors
/// [`RunError`] naming the file.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), RunError> {
    let bad = |e: &dyn std::fmt::Display| RunError::io("write", path, std::io::Error::other(e.to_string()));
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        parts.push((name, shape, bytes(tensor).map_err(|e| bad(&e))?));
    }
    let views = parts.iter().map(|(name, shape, (dtype, bytes))| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| bad(&e))?;
    let sum = checksum(views.iter().map(|(name, view)| (*name, view)));
    let metadata = HashMap::from([(CHECKSUM.to_owned(), sum)]);
    let whole = safetensors::serialize(views, Some(metadata)).map_err(|e| bad(&e))?;
    write_atomic(path, |file| file.write_all(&whole).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}

/// Whether a file is what [`write_tensors`] wrote.
///
/// # Errors
/// [`RunError::Io`] when it cannot be read, [`RunError::Damaged`] when it is something else.
pub fn check_tensors(path: &Path) -> Result<(), RunError> {
    let content = std::fs::read(path).map_err(|e| RunError::io("read", path, e))?;
    let damaged = |found: String, expected: &str| RunError::damaged(path, &found, expected);
    let cut = |e: safetensors::SafeTensorError| damaged(e.to_string(), "safetensors");
    let file = SafeTensors::deserialize(&content).map_err(cut)?;
    let (_, header) = SafeTensors::read_metadata(&content).map_err(cut)?;
    let expected = header.metadata().as_ref().and_then(|m| m.get(CHECKSUM)).map_or("", String::as_str);
    let tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let found = checksum(tensors.iter().map(|(name, view)| (name.as_str(), view)));
    if found == expected {
        Ok(())
    } else {
        Err(damaged(format!("xxh64 {found}"), &format!("xxh64 {expected}")))
    }
}

/// XXH64 (seed 0) over names, types, shapes and numbers, in the order of the names.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a TensorView<'a>)>) -> String {
    let mut hash = XxHash64::with_seed(0);
    for (name, view) in tensors {
        hash.write(format!("{name:?} {:?} {:?}\n", view.dtype(), view.shape()).as_bytes());
        hash.write(view.data());
    }
    format!("{:016x}", hash.finish())
}

fn bytes(tensor: &Tensor) -> Result<(Dtype, Vec<u8>), tch::TchError> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_reshape([-1])?;
    Ok(if tensor.kind() == Kind::Double {
        (Dtype::F64, Vec::<f64>::try_from(flat)?.iter().flat_map(|x| x.to_le_bytes()).collect())
    } else {
        let flat = flat.f_to_kind(Kind::Float)?;
        (Dtype::F32, Vec::<f32>::try_from(flat)?.iter().flat_map(|x| x.to_le_bytes()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weights;

    #[test]
    fn what_is_written_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let a = Tensor::randn([2, 3], (Kind::Float, Device::Cpu));
        let b = Tensor::from_slice(&[f64::INFINITY, 1.0 / 3.0]);
        let tensors = BTreeMap::from([("a".to_owned(), a.tr()), ("b".to_owned(), b.copy())]);
        write_tensors(&path, &tensors).unwrap();
        let back = Weights::open_file(&path, Kind::Double).unwrap();
        assert!(back.take_any("a").unwrap().to_kind(Kind::Float).equal(&a.tr()));
        assert!(back.take_any("b").unwrap().equal(&b));
    }

    #[test]
    fn a_flipped_bit_changes_nothing_or_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensors = BTreeMap::from([
            ("a/b".to_owned(), Tensor::from_slice(&[0.0, 1.0, -1.0]).view([3, 1])),
            ("c".to_owned(), Tensor::from_slice(&[1.0f32; 5])),
        ]);
        write_tensors(&path, &tensors).unwrap();
        check_tensors(&path).unwrap();
        let read = |path: &Path| -> BTreeMap<String, Tensor> {
            let file = Weights::open_file(path, Kind::Double).unwrap();
            file.shapes().map(|(name, _)| (name.to_owned(), file.take_any(name).unwrap())).collect()
        };
        let (whole, mut noticed) = (std::fs::read(&path).unwrap(), 0);
        for bit in 0..8 * whole.len() {
            let mut content = whole.clone();
            content[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, content).unwrap();
            match check_tensors(&path) {
                Err(RunError::Damaged { .. }) => noticed += 1,
                other => {
                    other.unwrap();
                    assert_eq!(read(&path), tensors, "bit {bit}");
                }
            }
        }
        assert!(noticed > 8 * 44, "{noticed}: every bit of the numbers, at least");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let says = check_tensors(&path).unwrap_err().to_string();
        assert!(says.contains("is damaged"), "{says}");
    }
}
