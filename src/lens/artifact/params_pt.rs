//! The tensors of a tuned lens under the names of the tuned-lens package: `"0.weight"` for `"layer.0.weight"`.

use std::collections::BTreeMap;
use std::path::Path;

use layerscope_lenses::torch_file;
use tch::{Kind, Tensor};

use super::{ArtifactError, LensConfig};

/// The bytes of `params.pt`, layers in order.
pub(super) fn encode(
    path: &Path,
    config: &LensConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Vec<u8>, ArtifactError> {
    let named = names(config)
        .map(|(ours, theirs, shape)| {
            let tensor =
                tensors.get(&ours).ok_or_else(|| ArtifactError::tensor(path, &ours, "is missing"))?;
            check_shape(path, &ours, tensor, &shape)?;
            Ok((theirs, tensor.to_kind(Kind::Float)))
        })
        .collect::<Result<Vec<_>, ArtifactError>>()?;
    torch_file::write(&named).map_err(|source| ArtifactError::ParamsPt { path: path.to_owned(), source })
}

/// The tensors of `params.pt` under our names, in f32.
pub(super) fn decode(
    path: &Path,
    config: &LensConfig,
    bytes: &[u8],
) -> Result<BTreeMap<String, Tensor>, ArtifactError> {
    let read = torch_file::read(bytes)
        .map_err(|source| ArtifactError::ParamsPt { path: path.to_owned(), source })?;
    let mut read: BTreeMap<_, _> = read.into_iter().collect();
    let mut tensors = BTreeMap::new();
    for (ours, theirs, shape) in names(config) {
        let tensor =
            read.remove(&theirs).ok_or_else(|| ArtifactError::tensor(path, &theirs, "is missing"))?;
        check_shape(path, &theirs, &tensor, &shape)?;
        tensors.insert(ours, tensor.to_kind(Kind::Float));
    }
    match read.keys().next() {
        Some(name) => Err(ArtifactError::tensor(path, name, "is not part of a tuned lens")),
        None => Ok(tensors),
    }
}

/// Our name, the package's, and the shape of every tensor.
fn names(config: &LensConfig) -> impl Iterator<Item = (String, String, Vec<i64>)> {
    let d = config.d_model as i64;
    (0..config.n_layers).flat_map(move |i| {
        [("weight", vec![d, d]), ("bias", vec![d])]
            .map(|(part, shape)| (format!("layer.{i}.{part}"), format!("{i}.{part}"), shape))
    })
}

fn check_shape(path: &Path, name: &str, tensor: &Tensor, shape: &[i64]) -> Result<(), ArtifactError> {
    let got = tensor.size();
    if got == shape {
        return Ok(());
    }
    Err(ArtifactError::tensor(path, name, format!("has shape {got:?}, expected {shape:?}")))
}
