//! Fitted probes as files: `probes/logistic.resid_pre.3.safetensors` and `.json` beside it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use layerscope::{
    model::Weights,
    probe::{Cell, TOGETHER, Target, Treatment},
    probes::{Linear, Link},
    results::hash::sha256_file,
    results::run::{Manifest, RunError, check_file, write_atomic},
    states::write_tensors,
};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{super::exit::Failure, sweep::Job};

/// What the `.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Facts {
    pub(in crate::cli) probe: String,
    pub(in crate::cli) hook: String,
    pub(in crate::cli) layer: usize,
    pub(in crate::cli) positions: String,
    /// None: a number.
    pub(in crate::cli) classes: Option<Vec<String>>,
    /// Classes that were too rare to be fitted, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) rare: Option<Rare>,
    /// The states of a text and of its negation side by side.
    pub(in crate::cli) paired: bool,
    #[serde(with = "LinkName")]
    link: Link,
    l2: Option<f64>,
    converged: bool,
    seed: u64,
    /// sha256 of the model's weights.
    pub(in crate::cli) model: Option<String>,
    tokenizer: Option<String>,
    reads: String,
}

/// What became of classes that were too rare: they are one class, `together`, or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Rare {
    pub(in crate::cli) classes: Vec<String>,
    pub(in crate::cli) together: Option<String>,
}

/// [`Link`] by name.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Link", rename_all = "lowercase")]
enum LinkName {
    Identity,
    Margin,
    Sigmoid,
    Softmax,
}

/// A probe from a file.
#[derive(Debug)]
pub(in crate::cli) struct Saved {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) sha256: String,
    pub(in crate::cli) facts: Facts,
    pub(in crate::cli) linear: Linear,
}

/// Writes the probes of the first split, and what that was fitted on. Weights `[k, d]` and bias `[k]` read raw states: the standardisation by the training
/// part is folded into them.
pub(super) fn write(
    run: &Path,
    job: &Job,
    points: &[(String, usize)],
    cells: &[Vec<Cell>],
    manifest: &Manifest,
) -> Result<(), Failure> {
    let classes = match &job.labelled.task.target {
        Target::Classes { names, .. } => Some(names.clone()),
        Target::Numbers(_) => None,
    };
    if let Some(round) = job.rounds.first() {
        job.labelled.fitted_on(round).write(&run.join("probes"))?;
    }
    for ((hook, layer), cells) in points.iter().zip(cells) {
        let Some(cell) = cells.first() else { continue };
        for (estimator, reading) in &cell.readings {
            let facts = Facts {
                probe: estimator.name().into(),
                hook: hook.clone(),
                layer: *layer,
                positions: job.labelled.sides[0].plan.positions.to_string(),
                classes: classes.clone(),
                rare: job.labelled.rare.as_ref().map(|kept| Rare {
                    classes: kept.rare.iter().map(|class| class.name.clone()).collect(),
                    together: (kept.how == Treatment::Group).then(|| TOGETHER.to_owned()),
                }),
                paired: job.labelled.sides.len() == 2,
                link: reading.fitted.linear.link,
                l2: reading.fitted.l2,
                converged: reading.fitted.converged,
                seed: manifest.seed,
                model: manifest.model.as_ref().map(|m| m.sha256.clone()),
                tokenizer: manifest.tokenizer_sha256.clone(),
                reads: "raw states: scores = x weightᵀ + bias; the training part's z-scores are folded in"
                    .into(),
            };
            one(&run.join("probes"), &facts, &reading.fitted.linear)?;
        }
    }
    Ok(())
}

fn one(folder: &Path, facts: &Facts, linear: &Linear) -> Result<(), Failure> {
    let stem = format!("{}.{}.{}", facts.probe, facts.hook, facts.layer);
    let (k, d) = linear.weights.dim();
    let weights: Vec<f64> = linear.weights.iter().copied().collect();
    let tensors = BTreeMap::from([
        ("weight".to_owned(), Tensor::from_slice(&weights).view([k as i64, d as i64])),
        ("bias".to_owned(), Tensor::from_slice(&linear.bias.to_vec())),
    ]);
    write_tensors(&folder.join(format!("{stem}.safetensors")), &tensors)?;
    let text = serde_json::to_string_pretty(facts)? + "\n";
    let path = folder.join(format!("{stem}.json"));
    write_atomic(&path, |file| file.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
    Ok(())
}

/// Reads a probe by its `.safetensors` or `.json`, or every probe of a sweep's folder.
pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<Vec<Saved>> {
    if !path.is_dir() {
        return Ok(vec![open(path)?]);
    }
    let folder = [path.join("probes"), path.to_owned()].into_iter().find(|p| p.is_dir());
    let entries = fs::read_dir(folder.unwrap_or_default()).with_context(|| path.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(anyhow!("{}: no saved probe; `probe sweep` writes them", path.display()));
    }
    let mut all: Vec<Saved> = files.iter().map(|file| open(file)).collect::<Result<_, _>>()?;
    all.sort_by(|a, b| {
        let key = |s: &Saved| (s.facts.probe.clone(), s.facts.hook.clone(), s.facts.layer);
        key(a).cmp(&key(b))
    });
    Ok(all)
}

fn open(path: &Path) -> anyhow::Result<Saved> {
    let (facts, path) = (path.with_extension("json"), path.with_extension("safetensors"));
    for file in [&facts, &path] {
        check_file(file)?;
    }
    let text = fs::read_to_string(&facts).with_context(|| facts.display().to_string())?;
    let facts: Facts = serde_json::from_str(&text).with_context(|| facts.display().to_string())?;
    let file = Weights::open_file(&path, Kind::Double)?;
    let weight = file.take_any("weight")?;
    let [k, d] = weight.size()[..] else {
        return Err(anyhow!("{}: weight has the shape {:?}, not [k, d]", path.display(), weight.size()));
    };
    let flat = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).view([-1]));
    let weights = Array2::from_shape_vec((k as usize, d as usize), flat(weight)?)?;
    let linear = Linear::new(weights, Array1::from(flat(file.take_any("bias")?)?), facts.link);
    let linear = linear.with_context(|| path.display().to_string())?;
    Ok(Saved { sha256: sha256_file(&path, &|_| ())?, path, facts, linear })
}
