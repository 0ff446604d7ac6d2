//! Named tensors in a safetensors file, written whole or not at all.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use super::{RunError, write_atomic};

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
    let whole = safetensors::serialize(views, None).map_err(|e| bad(&e))?;
    write_atomic(path, |file| file.write_all(&whole).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
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
}
