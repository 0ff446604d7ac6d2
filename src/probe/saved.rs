//! Fitted probes as files: `probes/logistic.resid_pre.3.safetensors` and `.json` beside it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use layerscope_probes::{Linear, Link};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::{Kept, TOGETHER, Treatment};
use crate::{
    model::{ModelError, Weights},
    results::{
        hash::sha256_file,
        run::{RunError, check_file, write_atomic},
    },
    sources::labelled::LabelPositions,
    states::write_tensors,
};

/// The folder of a sweep's run in which its probes are.
pub const FOLDER: &str = "probes";

/// What the `.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the estimator.
    pub probe: String,
    /// Short name of the hook whose states it reads.
    pub hook: String,
    /// The layer.
    pub layer: usize,
    /// The tokens of a text or span whose states it reads.
    pub positions: LabelPositions,
    /// Its classes; none: it gives a number.
    pub classes: Option<Vec<String>>,
    /// Classes that were too rare to be fitted, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rare: Option<Rare>,
    /// Whether it reads the states of a text and of its negation side by side.
    pub paired: bool,
    /// How values become scores.
    #[serde(with = "LinkName")]
    pub link: Link,
    /// The penalty, where there is one.
    pub l2: Option<f64>,
    /// Whether the optimiser reached its tolerance.
    pub converged: bool,
    /// Seed of the split that it was fitted on.
    pub seed: u64,
    /// sha256 of the model's weights.
    pub model: Option<String>,
    /// sha256 of the tokenizer.
    pub tokenizer: Option<String>,
    /// How to use its tensors, in words.
    pub reads: String,
}

/// What became of classes that were too rare: they are one class, `together`, or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rare {
    /// Their names.
    pub classes: Vec<String>,
    /// The class that they are together.
    pub together: Option<String>,
}

impl From<&Kept> for Rare {
    fn from(kept: &Kept) -> Self {
        Self {
            classes: kept.rare.iter().map(|class| class.name.clone()).collect(),
            together: (kept.how == Treatment::Group).then(|| TOGETHER.to_owned()),
        }
    }
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
pub struct Saved {
    /// Its `.safetensors`.
    pub path: PathBuf,
    /// sha256 of that file.
    pub sha256: String,
    /// What the `.json` says.
    pub facts: Facts,
    /// Directions and biases, on raw states.
    pub linear: Linear,
}

/// A probe that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A file or folder cannot be read.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder is none of a sweep.
    #[error("{}: no saved probe; `probe sweep` writes them", .0.display())]
    NoProbe(PathBuf),
    /// A `.json` says something else.
    #[error("{}", path.display())]
    Facts {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// Weights of another shape.
    #[error("{}: weight has the shape {shape:?}, not [k, d]", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// Weights and bias do not fit together.
    #[error("{}", path.display())]
    Linear {
        /// The file.
        path: PathBuf,
        /// What the part below said; it is the cause of this error.
        source: layerscope_probes::Error,
    },
    /// A tensor cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor cannot be copied.
    #[error(transparent)]
    Tensor(#[from] TchError),
    /// A file cannot be written, or is not whole.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Writes a probe into a folder. Its weights `[k, d]` and bias `[k]` are those for raw states.
///
/// # Errors
/// A file that cannot be written.
pub fn write(folder: &Path, facts: &Facts, linear: &Linear) -> Result<(), SavedError> {
    let stem = format!("{}.{}.{}", facts.probe, facts.hook, facts.layer);
    let (k, d) = linear.weights.dim();
    let weights: Vec<f64> = linear.weights.iter().copied().collect();
    let tensors = BTreeMap::from([
        ("weight".to_owned(), Tensor::from_slice(&weights).view([k as i64, d as i64])),
        ("bias".to_owned(), Tensor::from_slice(&linear.bias.to_vec())),
    ]);
    write_tensors(&folder.join(format!("{stem}.safetensors")), &tensors)?;
    let path = folder.join(format!("{stem}.json"));
    let text = serde_json::to_string_pretty(facts)
        .map_err(|source| SavedError::Facts { path: path.clone(), source })?
        + "\n";
    write_atomic(&path, |file| file.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
    Ok(())
}

/// Reads a probe by its `.safetensors` or `.json`, or every probe of a sweep's folder, in the order of estimator, hook
/// and layer.
///
/// # Errors
/// A file that is not there, or is no probe.
pub fn read(path: &Path) -> Result<Vec<Saved>, SavedError> {
    if !path.is_dir() {
        return Ok(vec![open(path)?]);
    }
    let of_path = |source| SavedError::Io { path: path.to_owned(), source };
    let folder = [path.join(FOLDER), path.to_owned()].into_iter().find(|p| p.is_dir());
    let entries = fs::read_dir(folder.unwrap_or_default()).map_err(of_path)?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(of_path)?;
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(SavedError::NoProbe(path.to_owned()));
    }
    let mut all: Vec<Saved> = files.iter().map(|file| open(file)).collect::<Result<_, _>>()?;
    all.sort_by(|a, b| {
        let key = |s: &Saved| (s.facts.probe.clone(), s.facts.hook.clone(), s.facts.layer);
        key(a).cmp(&key(b))
    });
    Ok(all)
}

fn open(path: &Path) -> Result<Saved, SavedError> {
    let (json, path) = (path.with_extension("json"), path.with_extension("safetensors"));
    for file in [&json, &path] {
        check_file(file)?;
    }
    let facts = facts(&json)?;
    let linear = linear(&path, facts.link)?;
    let sha256 =
        sha256_file(&path, &|_| ()).map_err(|source| SavedError::Io { path: path.clone(), source })?;
    Ok(Saved { path, sha256, facts, linear })
}

fn facts(path: &Path) -> Result<Facts, SavedError> {
    let text = fs::read_to_string(path).map_err(|source| SavedError::Io { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| SavedError::Facts { path: path.to_owned(), source })
}

fn linear(path: &Path, link: Link) -> Result<Linear, SavedError> {
    let file = Weights::open_file(path, Kind::Double)?;
    let weight = file.take_any("weight")?;
    let shape = weight.size();
    let wrong = || SavedError::Shape { path: path.to_owned(), shape: shape.clone() };
    let [k, d] = shape[..] else { return Err(wrong()) };
    let flat = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).view([-1]));
    let weights = Array2::from_shape_vec((k as usize, d as usize), flat(weight)?).map_err(|_| wrong())?;
    let bias = Array1::from(flat(file.take_any("bias")?)?);
    Linear::new(weights, bias, link).map_err(|source| SavedError::Linear { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            probe: "logistic".into(),
            hook: "resid_pre".into(),
            layer: 3,
            positions: LabelPositions::LastPiece,
            classes: Some(vec!["no".into(), "yes".into()]),
            rare: None,
            paired: false,
            link: Link::Sigmoid,
            l2: Some(10.0),
            converged: true,
            seed: 0,
            model: None,
            tokenizer: None,
            reads: "raw states".into(),
        }
    }

    fn linear() -> Linear {
        let weights = Array2::from_shape_vec((1, 3), vec![0.5, -1.25, 1e-300]).unwrap();
        Linear::new(weights, Array1::from(vec![0.1]), Link::Sigmoid).unwrap()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        write(&folder, &facts(), &linear()).unwrap();
        // By the sweep's folder, by the folder of its probes, and by either file.
        let stem = folder.join("logistic.resid_pre.3");
        let places = [
            dir.path().to_owned(),
            folder,
            stem.with_extension("3.json"),
            stem.with_extension("3.safetensors"),
        ];
        for place in places {
            let all = read(&place).unwrap();
            let [saved] = &all[..] else { panic!("{}: {} probes", place.display(), all.len()) };
            assert_eq!(serde_json::to_value(&saved.facts).unwrap(), serde_json::to_value(facts()).unwrap());
            assert_eq!((&saved.linear.weights, &saved.linear.bias), (&linear().weights, &linear().bias));
            assert_eq!(saved.linear.link, Link::Sigmoid);
        }
    }

    #[test]
    fn names_in_files_are_those_of_the_command_line() {
        let json = serde_json::to_value(facts()).unwrap();
        assert_eq!((&json["positions"], &json["link"]), (&"last-piece".into(), &"sigmoid".into()));
        assert!(json.get("rare").is_none());
    }

    #[test]
    fn what_is_no_probe_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| read(path).unwrap_err().to_string();
        assert!(message(dir.path()).ends_with("no saved probe; `probe sweep` writes them"));
        write(dir.path(), &facts(), &linear()).unwrap();
        let json = dir.path().join("logistic.resid_pre.3.json");
        let text = fs::read_to_string(&json).unwrap();
        fs::write(&json, text.replace("last-piece", "middle")).unwrap();
        let error = read(&json).unwrap_err();
        assert!(matches!(&error, SavedError::Facts { path, .. } if *path == json), "{error}");
        fs::remove_file(&json).unwrap();
        assert!(message(dir.path()).contains("logistic.resid_pre.3.json"));
    }
}
