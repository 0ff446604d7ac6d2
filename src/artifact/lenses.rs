//! From a lens folder to lenses. A new kind of lens is one arm here.

use std::collections::BTreeMap;
use std::path::Path;

use layerscope_lenses::{Affine, LayerIndex, Lens, TunedLens};
use tch::Tensor;

use super::{ArtifactError, LensConfig, LensFolder, LensKind, PARAMS};

/// The lenses in the folder `dir`, reported under `name`: one, or one per horizon for a future lens.
///
/// Whether they belong to a model is for [`super::check`] to say.
///
/// # Errors
/// As [`LensFolder::read`], when a tensor is missing or has another shape, or the kind is not supported.
pub fn load(dir: &Path, name: &str) -> Result<Vec<Box<dyn Lens>>, ArtifactError> {
    let LensFolder { config, tensors } = LensFolder::read(dir)?;
    match config.kind {
        LensKind::Tuned => Ok(vec![Box::new(tuned(dir, name, &config, tensors)?)]),
        other @ (LensKind::Shared | LensKind::Linear | LensKind::Future) => {
            Err(ArtifactError::UnsupportedKind(other))
        }
    }
}

fn tuned(
    dir: &Path,
    name: &str,
    config: &LensConfig,
    mut tensors: BTreeMap<String, Tensor>,
) -> Result<TunedLens, ArtifactError> {
    let path = dir.join(PARAMS);
    let mut take =
        |name: String| tensors.remove(&name).ok_or_else(|| ArtifactError::tensor(&path, &name, "is missing"));
    let mut translators = BTreeMap::new();
    for &layer in &config.layers {
        let weight = take(format!("layer.{layer}.weight"))?;
        let map = Affine::new(weight, take(format!("layer.{layer}.bias"))?)?;
        if map.d_model() != config.d_model {
            let (got, expected) = (map.d_model(), config.d_model);
            let name = format!("layer.{layer}.bias");
            return Err(ArtifactError::tensor(
                &path,
                &name,
                format!("has {got} numbers, d_model is {expected}"),
            ));
        }
        translators.insert(LayerIndex(layer), map);
    }
    match tensors.keys().next() {
        Some(name) => Err(ArtifactError::tensor(&path, name, "is not part of a tuned lens")),
        None => Ok(TunedLens::new(name, translators)),
    }
}

/// The tensors of a tuned lens under the names of its folder.
pub fn tuned_tensors(translators: &BTreeMap<LayerIndex, Affine>) -> BTreeMap<String, Tensor> {
    let named = |(layer, map): (&LayerIndex, &Affine)| {
        [
            (format!("layer.{layer}.weight"), map.weight.shallow_clone()),
            (format!("layer.{layer}.bias"), map.bias.shallow_clone()),
        ]
    };
    translators.iter().flat_map(named).collect()
}
