//! `params.safetensors`: tensors by name, f32.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use super::ArtifactError;

/// The bytes of a safetensors file. Equal tensors give equal bytes.
pub(super) fn encode(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, ArtifactError> {
    let raw = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytes(tensor).map_err(layerscope_lenses::Error::from)?;
            let shape = tensor.size().iter().map(|n| *n as usize).collect::<Vec<_>>();
            Ok((name, shape, bytes))
        })
        .collect::<Result<Vec<_>, ArtifactError>>()?;
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            Ok((*name, view.map_err(|e| ArtifactError::tensor(path, name, e.to_string()))?))
        })
        .collect::<Result<Vec<_>, ArtifactError>>()?;
    safetensors::serialize(views, None).map_err(|e| whole(path, &e))
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let flat = tensor.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; 4 * flat.numel()];
    if !bytes.is_empty() {
        flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    }
    Ok(bytes)
}

/// The tensors of a safetensors file, all of which must be f32.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, ArtifactError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| whole(path, &e))?;
    file.iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(ArtifactError::tensor(path, name, format!("is {:?}, not F32", view.dtype())));
            }
            let size: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
            let tensor = if view.data().is_empty() {
                Tensor::f_zeros(&size, (Kind::Float, Device::Cpu))
            } else {
                Tensor::f_from_data_size(view.data(), &size, Kind::Float)
            };
            Ok((name.to_owned(), tensor.map_err(layerscope_lenses::Error::from)?))
        })
        .collect()
}

/// Names the first tensor with a NaN or an infinity.
pub(super) fn check_finite(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), ArtifactError> {
    for (name, tensor) in tensors {
        let finite = tensor.f_isfinite().and_then(|f| f.f_all()).map_err(layerscope_lenses::Error::from)?;
        if finite.int64_value(&[]) == 0 {
            return Err(ArtifactError::tensor(path, name, "holds a NaN or infinite value"));
        }
    }
    Ok(())
}

fn whole(path: &Path, error: &safetensors::SafeTensorError) -> ArtifactError {
    ArtifactError::Config { path: path.to_owned(), reason: error.to_string() }
}
