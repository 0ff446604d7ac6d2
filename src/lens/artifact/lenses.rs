//! From a lens folder to lenses. A new kind of lens is one arm here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use layerscope_lenses::{
    Affine, FutureLens, Horizon, Jacobian, JacobianLens, LayerIndex, Lens, LinearLens, TunedLens,
};
use tch::{Device, Tensor};

use super::{ArtifactError, CONFIG, LensConfig, LensFolder, LensKind, PARAMS};

/// The lenses in the folder `dir` on `device`: [`LensFolder::read`], then [`LensFolder::lenses`].
///
/// # Errors
/// Those of both.
pub fn load(dir: &Path, name: &str, device: Device) -> Result<Vec<Box<dyn Lens>>, ArtifactError> {
    LensFolder::read(dir)?.lenses(name, device)
}

impl LensFolder {
    /// The lenses on `device`, reported under `name`: one; for a future lens one per horizon; for a shared lens with
    /// several rungs `name:rung` each. On the CPU they share the folder's memory.
    ///
    /// Whether they belong to a model is for [`super::check`] to say.
    ///
    /// # Errors
    /// When a tensor is missing, unknown or of another shape.
    pub fn lenses(&self, name: &str, device: Device) -> Result<Vec<Box<dyn Lens>>, ArtifactError> {
        let config = &self.config;
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut maps = Maps { path: self.dir.join(PARAMS), config, tensors, device };
        let lenses = maps.lenses(name)?;
        match maps.tensors.keys().next() {
            Some(name) => {
                Err(ArtifactError::tensor(&maps.path, name, format!("is not part of a {} lens", config.kind)))
            }
            None => Ok(lenses),
        }
    }
}

impl LensFolder {
    /// The Jacobians of a Jacobian lens by layer, each with how well it is known, on the CPU.
    ///
    /// # Errors
    /// When one is missing or of another shape.
    pub fn jacobians(&self) -> Result<BTreeMap<LayerIndex, Jacobian>, ArtifactError> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let path = self.dir.join(PARAMS);
        Maps { path, config: &self.config, tensors, device: Device::Cpu }.jacobians()
    }

    /// The maps of a future-vocab lens by layer and horizon, to normalised states of the last layer, on `device`.
    ///
    /// # Errors
    /// When one is missing, unknown or of another shape.
    pub fn vocab_maps(&self, device: Device) -> Result<BTreeMap<(usize, usize), Affine>, ArtifactError> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut maps = Maps { path: self.dir.join(PARAMS), config: &self.config, tensors, device };
        let mut all = BTreeMap::new();
        for &horizon in &self.config.horizons {
            let of = maps.take("", &format!(".horizon.{horizon}"))?;
            all.extend(of.into_iter().map(|(layer, map)| ((layer.0, horizon), map)));
        }
        match maps.tensors.keys().next() {
            Some(name) => Err(ArtifactError::tensor(&maps.path, name, "is not part of a future-vocab lens")),
            None => Ok(all),
        }
    }

    /// The learned prompts of a future-prompt lens by layer and horizon, `[M, d_model]` each, f32 on the CPU.
    ///
    /// # Errors
    /// When one is missing, unknown, empty or of another width.
    pub fn prompts(&self) -> Result<BTreeMap<(usize, usize), Tensor>, ArtifactError> {
        let path = self.dir.join(PARAMS);
        let mut prompts = BTreeMap::new();
        for (layer, horizon) in
            self.config.layers.iter().flat_map(|l| self.config.horizons.iter().map(|k| (*l, *k)))
        {
            let name = prompt_name(layer, horizon);
            let failed = |reason: String| ArtifactError::tensor(&path, &name, reason);
            let tensor = self.tensors.get(&name).ok_or_else(|| failed("is missing".into()))?;
            match tensor.size()[..] {
                [m, d] if m > 0 && d == self.config.d_model as i64 => {
                    prompts.insert((layer, horizon), tensor.shallow_clone());
                }
                ref size => {
                    let d = self.config.d_model;
                    return Err(failed(format!("has shape {size:?}, must be [tokens, {d}]")));
                }
            }
        }
        let known = |name: &&String| prompts.keys().any(|(l, k)| **name == prompt_name(*l, *k));
        match self.tensors.keys().find(|name| !known(name)) {
            Some(name) => Err(ArtifactError::tensor(&path, name, "is not part of a future-prompt lens")),
            None => Ok(prompts),
        }
    }
}

/// What a learned prompt is called in a folder.
pub fn prompt_name(layer: usize, horizon: usize) -> String {
    format!("layer.{layer}.horizon.{horizon}.prompt")
}

/// The tensors of a folder on their way into translators.
struct Maps<'a> {
    path: PathBuf,
    config: &'a LensConfig,
    /// Those that nothing was made of yet.
    tensors: BTreeMap<&'a str, &'a Tensor>,
    device: Device,
}

impl Maps<'_> {
    fn lenses(&mut self, name: &str) -> Result<Vec<Box<dyn Lens>>, ArtifactError> {
        let config = self.config;
        Ok(match config.kind {
            LensKind::Tuned => vec![Box::new(TunedLens::new(name, self.take("", "")?))],
            LensKind::Linear => {
                vec![Box::new(LinearLens::new(name, self.target(), self.take("", "")?))]
            }
            LensKind::Future => {
                let mut one = |k: &usize| -> Result<Box<dyn Lens>, ArtifactError> {
                    let maps = self.take("", &format!(".horizon.{k}"))?;
                    Ok(Box::new(FutureLens::new(name, Horizon(*k), maps)))
                };
                config.horizons.iter().map(&mut one).collect::<Result<_, _>>()?
            }
            LensKind::Jacobian => {
                let jacobians = self.jacobians()?;
                let means = jacobians.into_iter().map(|(layer, jacobian)| (layer, jacobian.mean)).collect();
                vec![Box::new(JacobianLens::new(name, self.target(), means)?)]
            }
            kind @ (LensKind::FutureVocab | LensKind::FuturePrompt) => {
                return Err(ArtifactError::NotAMap { kind });
            }
            LensKind::Shared => {
                let rungs = self.rungs()?;
                let mut one = |rung: &String| -> Result<Box<dyn Lens>, ArtifactError> {
                    let maps = self.take(&format!("{rung}."), "")?;
                    let alone = rungs.len() == 1;
                    Ok(Box::new(if alone {
                        TunedLens::new(name, maps)
                    } else {
                        TunedLens::of_rung(name, rung, maps)
                    }))
                };
                rungs.iter().map(&mut one).collect::<Result<_, _>>()?
            }
        })
    }

    /// The layer that is mapped to.
    fn target(&self) -> LayerIndex {
        let target = self.config.details["target"].as_u64();
        LayerIndex(target.map_or(self.config.n_layers, |target| target as usize))
    }

    /// The Jacobians by layer.
    fn jacobians(&mut self) -> Result<BTreeMap<LayerIndex, Jacobian>, ArtifactError> {
        let d = self.config.d_model as i64;
        let mut all = BTreeMap::new();
        for &layer in &self.config.layers {
            let [mean, prompts, error] = jacobian_names(layer);
            let given = self.tensors.contains_key(error.as_str());
            let squared_error = given.then(|| self.tensor(&error, &[d])).transpose()?;
            let (mean, prompts) = (self.tensor(&mean, &[d, d])?, self.tensor(&prompts, &[d])?);
            all.insert(LayerIndex(layer), Jacobian { mean, prompts, squared_error });
        }
        Ok(all)
    }

    /// The rungs of a shared lens, as its `details` list them.
    fn rungs(&self) -> Result<Vec<String>, ArtifactError> {
        let names = self.config.details["rungs"].as_array().filter(|names| !names.is_empty());
        let names = names.and_then(|names| names.iter().map(|n| n.as_str().map(str::to_owned)).collect());
        let reason = "a shared lens must list its rungs in layerscope.details.rungs".to_owned();
        names.ok_or(ArtifactError::Config { path: self.path.with_file_name(CONFIG), reason })
    }

    /// The maps `{prefix}layer.{i}{suffix}.weight` and `.bias` of every layer.
    fn take(&mut self, prefix: &str, suffix: &str) -> Result<BTreeMap<LayerIndex, Affine>, ArtifactError> {
        let d = self.config.d_model as i64;
        let mut maps = BTreeMap::new();
        for &layer in &self.config.layers {
            let base = format!("{prefix}layer.{layer}{suffix}");
            let weight = self.tensor(&format!("{base}.weight"), &[d, d])?;
            let bias = self.tensor(&format!("{base}.bias"), &[d])?;
            maps.insert(LayerIndex(layer), Affine::new(weight, bias)?);
        }
        Ok(maps)
    }

    fn tensor(&mut self, name: &str, size: &[i64]) -> Result<Tensor, ArtifactError> {
        let failed = |reason: String| ArtifactError::tensor(&self.path, name, reason);
        let tensor = self.tensors.remove(name).ok_or_else(|| failed("is missing".into()))?;
        if tensor.size() == size {
            Ok(tensor.to_device(self.device))
        } else {
            Err(failed(format!("has shape {:?}, must be {size:?}", tensor.size())))
        }
    }
}

/// What the parts of a layer's Jacobian are called in a folder.
fn jacobian_names(layer: usize) -> [String; 3] {
    ["jacobian", "prompts", "squared_error"].map(|part| format!("layer.{layer}.{part}"))
}

/// The tensors of a Jacobian lens under the names of its folder.
pub fn jacobian_tensors(jacobians: &BTreeMap<LayerIndex, Jacobian>) -> BTreeMap<String, Tensor> {
    let named = |(layer, jacobian): (&LayerIndex, &Jacobian)| {
        let [mean, prompts, error] = jacobian_names(layer.0);
        let error = jacobian.squared_error.as_ref().map(|tensor| (error, tensor.shallow_clone()));
        let own = [(mean, jacobian.mean.shallow_clone()), (prompts, jacobian.prompts.shallow_clone())];
        own.into_iter().chain(error)
    };
    jacobians.iter().flat_map(named).collect()
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
