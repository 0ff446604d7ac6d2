//! Parity with reference activations computed by somebody else, such as transformers.
//!
//! A reference is one safetensors file with `input_ids [batch, seq]` and any number of activations under their
//! hook names (`blocks.3.hook_resid_pre`, `logits`) or as transformers names them (`hidden_states.3`, of which
//! the last is already normed). `scripts/reference.py` writes one for any model folder.

mod difference;

use std::path::Path;

pub use difference::{Difference, Exact, TOLERANCE};
use tch::{Kind, Tensor};

use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError, Weights, hook_points},
};

/// A reference that cannot be compared with this model.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file or the model is not as it must be.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The reference does not fit the model.
    #[error("{path}: {reason}")]
    Reference {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A reference file, and which of its tensors are hooks of one model.
#[derive(Debug)]
pub struct Reference {
    path: String,
    file: Weights,
    ids: Tensor,
    /// In the order of the pass.
    named: Vec<(HookPoint, String)>,
    unknown: Vec<String>,
}

impl Reference {
    /// Opens `path` for `model`, and leaves tensors that are no hook of it aside.
    ///
    /// # Errors
    /// When the file is no safetensors, has no `input_ids`, or no activation of this model.
    pub fn open(model: &Model, path: &Path) -> Result<Self, VerifyError> {
        let path_text = path.display().to_string();
        let bad = |reason: &str| VerifyError::Reference { path: path_text.clone(), reason: reason.into() };
        let file = Weights::open_file(path, Kind::Double)?;
        if !file.has("input_ids") {
            return Err(bad("no tensor `input_ids`"));
        }
        let available = hook_points(model.spec());
        let (mut named, mut unknown) = (Vec::new(), Vec::new());
        for name in file.shapes().map(|(name, _)| name).filter(|name| *name != "input_ids") {
            match point_of(name, model.spec().n_layers).filter(|point| available.contains(point)) {
                Some(point) => named.push((point, name.to_owned())),
                None => unknown.push(name.to_owned()),
            }
        }
        if named.is_empty() && unknown.is_empty() {
            return Err(bad("no activations beside `input_ids`"));
        }
        named.sort();
        unknown.sort();
        let ids = file.take_any("input_ids")?.to_kind(Kind::Int64);
        Ok(Self { path: path_text, file, ids, named, unknown })
    }

    /// Names that are no hook of the model, sorted.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Runs the reference's tokens through `model` and compares every activation, in the order of the pass; beside
    /// `exact`, the same model in f64, where there is one.
    ///
    /// # Errors
    /// When an activation has another shape than the model's, or none is a hook of it.
    pub fn compare(&self, model: &Model, exact: Option<&Model>) -> Result<Vec<Difference>, VerifyError> {
        if self.named.is_empty() {
            return Err(self.bad(format!("`{}` is no hook of this model", self.unknown.join("`, `"))));
        }
        let pass = |model: &Model| -> Result<Capture, ModelError> {
            let points = self.named.iter().map(|(point, _)| *point);
            let mut capture = Capture::new(points.collect::<Selection>());
            model.forward(&self.ids, &mut capture)?;
            Ok(capture)
        };
        let capture = pass(model)?;
        let exact = exact.map(pass).transpose()?;
        let compare_one = |(point, name): &(HookPoint, String)| {
            let ours = capture.get(*point).ok_or_else(|| self.bad(format!("`{name}` was not computed")))?;
            let theirs = self.file.take_any(name)?;
            if ours.size() != theirs.size() {
                let (theirs, ours) = (theirs.size(), ours.size());
                return Err(self.bad(format!("`{name}` is {theirs:?}, the model gives {ours:?}")));
            }
            let exact = exact.as_ref().and_then(|capture| capture.get(*point));
            Ok(Difference::of(*point, ours, &theirs, exact)?)
        };
        self.named.iter().map(compare_one).collect()
    }

    fn bad(&self, reason: String) -> VerifyError {
        VerifyError::Reference { path: self.path.clone(), reason }
    }
}

/// Compares `model` with every activation of a reference, in the order of the pass.
///
/// # Errors
/// When the file is not a reference, or one of its tensors names no hook of this model or has another shape.
pub fn verify(model: &Model, reference: &Path) -> Result<Vec<Difference>, VerifyError> {
    strict(model, reference)?.compare(model, None)
}

/// As [`verify`], beside the same model loaded in f64.
///
/// Some trained models amplify rounding so much that no two f32 programs agree to [`TOLERANCE`]. The exact values
/// tell rounding from a mistake: a correct reference is about as far from them as this model in f32 is.
///
/// # Errors
/// As [`verify`].
pub fn second_look(model: &Model, exact: &Model, reference: &Path) -> Result<Vec<Difference>, VerifyError> {
    strict(model, reference)?.compare(model, Some(exact))
}

/// A reference without unknown tensors.
fn strict(model: &Model, path: &Path) -> Result<Reference, VerifyError> {
    let reference = Reference::open(model, path)?;
    match reference.unknown().first() {
        Some(name) => Err(reference.bad(format!("`{name}` is no hook of this model"))),
        None => Ok(reference),
    }
}

/// A hook name, or transformers' `hidden_states.{i}`.
fn point_of(name: &str, n_layers: usize) -> Option<HookPoint> {
    let Some(layer) = name.strip_prefix("hidden_states.") else { return HookPoint::parse(name) };
    match layer.parse::<usize>().ok()? {
        i if i < n_layers => Some(HookPoint::resid_pre(i)),
        i if i == n_layers => Some(HookPoint::FinalNormalized),
        _ => None,
    }
}
