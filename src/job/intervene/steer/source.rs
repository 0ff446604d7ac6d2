//! `direction`: where vectors come from.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::{
    job::{BoxError, JobError, SetTo, Setting},
    model::Weights,
    probe::saved::{self, Saved},
    results::{hash::sha256_file, run::check_file},
};

/// A direction's vectors as they were found.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) name: String,
    sha256: Vec<String>,
    of: Of,
}

#[derive(Debug)]
enum Of {
    /// Layer and weights.
    Layers(Vec<(usize, Tensor)>),
    /// For every layer.
    Any(Tensor),
}

/// A direction of the residual stream, by layer.
pub(in crate::job) struct Vectors {
    pub(in crate::job) name: String,
    pub(in crate::job) layers: Vec<(usize, Vec<f64>)>,
    /// For the manifest.
    pub(in crate::job) record: Value,
}

/// The directions of a sweep, a saved probe or a file, as `direction` names them, and the path in that name.
pub(in crate::job) fn directions(
    asked: &str,
    layers: Option<&[usize]>,
) -> Result<(PathBuf, Vec<Vectors>), JobError> {
    let all = read(&[asked.to_owned()]).map_err(JobError::usage)?;
    let one = |loaded: &Loaded| -> Result<Vectors, BoxError> {
        let last = match &loaded.of {
            Of::Layers(own) => own.iter().map(|(layer, _)| *layer).max(),
            Of::Any(_) => layers.and_then(|layers| layers.iter().copied().max()),
        };
        let last = last.ok_or_else(|| format!("{asked} is of no layer; see {}", Setting("layers")))?;
        let vectors = loaded.vectors(layers, last)?.into_iter();
        let numbers = |vector: Tensor| Vec::<f64>::try_from(vector.f_to_kind(Kind::Double)?.f_contiguous()?);
        let vectors = vectors.map(|(layer, vector)| Ok((layer, numbers(vector)?)));
        let vectors = vectors.collect::<Result<_, BoxError>>()?;
        Ok(Vectors { name: loaded.name.clone(), layers: vectors, record: loaded.record() })
    };
    let found = all.iter().map(one).collect::<Result<_, _>>().map_err(JobError::usage)?;
    Ok((split(asked).0, found))
}

/// Every direction asked for.
pub(super) fn read(sought: &[String]) -> Result<Vec<Loaded>, BoxError> {
    let mut all = Vec::new();
    for text in sought {
        let (path, rest) = split(text);
        if !path.exists() {
            return Err(format!(
                "{}: no such file or folder; give a probe sweep's folder, a saved probe or FILE.safetensors:KEY",
                SetTo("direction", text)
            )
            .into());
        }
        let plain =
            path.extension().is_some_and(|e| e == "safetensors") && !path.with_extension("json").exists();
        if plain {
            all.push(tensor(&path, rest)?);
        } else {
            all.extend(probes(&path, rest)?);
        }
    }
    Ok(all)
}

/// `PATH:REST`, where the whole is no path itself.
fn split(text: &str) -> (PathBuf, Option<&str>) {
    if Path::new(text).exists() {
        return (text.into(), None);
    }
    match text.rsplit_once(':') {
        Some((path, rest)) if Path::new(path).exists() => (path.into(), Some(rest)),
        _ => (text.into(), None),
    }
}

/// Tensors `KEY.LAYER`, unless there is one called `KEY`.
fn of_layers<'a>(names: &'a [String], key: &str) -> Vec<(usize, &'a String)> {
    if names.iter().any(|name| name == key) {
        return Vec::new();
    }
    let layer = |name: &str| name.strip_prefix(key)?.strip_prefix('.')?.parse().ok();
    let mut all: Vec<_> = names.iter().filter_map(|name| Some((layer(name)?, name))).collect();
    all.sort_unstable();
    all
}

/// `[d_model]`, a row per layer, or a tensor per layer.
fn tensor(path: &Path, key: Option<&str>) -> Result<Loaded, BoxError> {
    check_file(path)?;
    let file = Weights::open_file(path, Kind::Double)?;
    let mut names: Vec<String> = file.shapes().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    let by_layer = key.map_or_else(Vec::new, |key| of_layers(&names, key));
    if let (Some(key), false) = (key, by_layer.is_empty()) {
        let take = |(layer, name): (usize, &String)| Ok((layer, file.take_any(name)?));
        let of = Of::Layers(by_layer.into_iter().map(take).collect::<Result<_, BoxError>>()?);
        return Ok(Loaded { name: key.to_owned(), sha256: vec![sha256_file(path, &|_| ())?], of });
    }
    let key = match (key, &names[..]) {
        (Some(key), _) if names.iter().any(|name| name == key) => key.to_owned(),
        (None, [only]) => only.clone(),
        (Some(key), _) => {
            return Err(
                format!("{}: no tensor {key:?}; there are {}", path.display(), names.join(", ")).into()
            );
        }
        (None, _) => {
            return Err(format!("{}: which of {}? PATH:KEY", path.display(), names.join(", ")).into());
        }
    };
    let found = file.take_any(&key)?;
    let of = match found.size()[..] {
        [_] => Of::Any(found),
        [layers, _] => Of::Layers((0..layers).map(|l| (l as usize, found.get(l))).collect()),
        _ => {
            return Err(format!(
                "{}: {key} has the shape {:?}, not [d_model] or [layers, d_model]",
                path.display(),
                found.size()
            )
            .into());
        }
    };
    Ok(Loaded { name: key, sha256: vec![sha256_file(path, &|_| ())?], of })
}

/// The weights of saved probes of the residual stream, one direction per kind of probe.
fn probes(path: &Path, class: Option<&str>) -> Result<Vec<Loaded>, BoxError> {
    let mut all: Vec<Loaded> = Vec::new();
    for probe in saved::read(path)? {
        let facts = &probe.facts;
        if facts.hook != "resid_pre" || facts.paired {
            let why = if facts.paired {
                "it reads pairs of states".to_owned()
            } else {
                format!("it reads {}", facts.hook)
            };
            let path = probe.path.display();
            return Err(format!("{path}: no direction of the residual stream: {why}").into());
        }
        let name = class.map_or_else(|| facts.probe.clone(), |class| format!("{}:{class}", facts.probe));
        let weights = weights(&probe, class).map_err(|e| format!("{}: {e}", probe.path.display()))?;
        let vector = (facts.layer, weights);
        match all.iter_mut().find(|loaded| loaded.name == name) {
            Some(Loaded { of: Of::Layers(layers), sha256, .. }) => {
                layers.push(vector);
                sha256.push(probe.sha256);
            }
            _ => all.push(Loaded { name, sha256: vec![probe.sha256], of: Of::Layers(vec![vector]) }),
        }
    }
    Ok(all)
}

/// Towards a class, away from the mean of the others; of two classes towards the second unless one is named.
fn weights(probe: &Saved, class: Option<&str>) -> Result<Tensor, String> {
    let rows = &probe.linear.weights;
    let vector = |row: usize| Tensor::from_slice(&rows.row(row).to_vec());
    let names = probe.facts.classes.as_deref().unwrap_or_default();
    let chosen = match class {
        Some(class) => names
            .iter()
            .position(|name| name == class)
            .ok_or_else(|| format!("no class {class:?}; there are {}", names.join(", ")))?,
        None if names.len() > 2 => {
            return Err(format!("which of its classes? PATH:CLASS, of {}", names.join(", ")));
        }
        None => 1,
    };
    Ok(match (rows.nrows(), names.len()) {
        (1, 2) if chosen == 0 => -vector(0),
        (1, _) => vector(0),
        (k, _) => {
            let others = (0..k).filter(|row| *row != chosen).map(vector).reduce(|a, b| a + b);
            vector(chosen) - others.unwrap_or_else(|| vector(chosen).zeros_like()) / (k as f64 - 1.0)
        }
    })
}

impl Loaded {
    /// The vectors of the layers asked for, or of all it has.
    pub(super) fn vectors(
        &self,
        sought: Option<&[usize]>,
        n_layers: usize,
    ) -> Result<Vec<(usize, Tensor)>, BoxError> {
        let wanted: Vec<usize> = sought.map_or_else(|| (0..=n_layers).collect(), <[usize]>::to_vec);
        match &self.of {
            Of::Any(vector) => Ok(wanted.iter().map(|layer| (*layer, vector.shallow_clone())).collect()),
            Of::Layers(layers) => {
                let find = |layer: &usize| layers.iter().find(|(own, _)| own == layer);
                if let Some(missing) = sought.into_iter().flatten().find(|layer| find(layer).is_none()) {
                    return Err(format!("direction {} has no vector of layer {missing}", self.name).into());
                }
                if let Some((beyond, _)) = layers.iter().find(|(layer, _)| *layer > n_layers) {
                    return Err(format!(
                        "direction {} is of layer {beyond}; the model's are 0 to {n_layers}",
                        self.name
                    )
                    .into());
                }
                Ok(wanted.iter().filter_map(find).map(|(l, v)| (*l, v.shallow_clone())).collect())
            }
        }
    }

    /// For the manifest.
    pub(super) fn record(&self) -> Value {
        json!({ "name": self.name, "sha256": self.sha256 })
    }
}
