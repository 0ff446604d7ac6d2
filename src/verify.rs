//! Parity with reference activations computed by somebody else, such as transformers.
//!
//! A reference is one safetensors file with `input_ids [batch, seq]` and any number of activations under their
//! hook names (`blocks.3.hook_resid_pre`, `logits`) or as transformers names them (`hidden_states.3`, of which
//! the last is already normed). `scripts/reference.py` writes one for any model folder.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError, Weights, hook_points},
};

/// Largest error that passes, relative to the root mean square of the reference.
pub const TOLERANCE: f64 = 5e-5;

/// How many times the model's own rounding a reference in the same precision may be away from the exact values.
const ROUNDING: f64 = 8.0;

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

/// How far the model is from the reference at one hook point.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The hook point.
    pub point: HookPoint,
    /// Largest absolute difference; NaN when either side holds one.
    pub max_abs: f64,
    /// Root mean square of the reference.
    pub scale: f64,
    /// Where the largest difference is, an index into the reference's shape.
    pub at: Vec<i64>,
    /// How many values were compared.
    pub n: usize,
    /// Whether the likeliest token is the same at every position; only for logits.
    pub same_argmax: Option<bool>,
    /// Distance of the reference from the exact values, where a [second look](second_look) was taken.
    pub exact: Option<Exact>,
}

/// Largest absolute distances from the model's values in f64.
#[derive(Debug, Clone, Copy)]
pub struct Exact {
    /// Of the reference.
    pub reference: f64,
    /// Of this model in its own precision: what rounding alone does.
    pub rounding: f64,
}

impl Difference {
    /// `max_abs / scale`.
    pub fn relative(&self) -> f64 {
        self.max_abs / self.scale.max(f64::MIN_POSITIVE)
    }

    /// Whether the error is within `tolerance` and the likeliest tokens are the same, or the reference is as near
    /// to the exact values as rounding lets this model be.
    pub fn passes(&self, tolerance: f64) -> bool {
        let rounding = self.exact.is_some_and(|e| e.reference <= ROUNDING * e.rounding);
        rounding || (self.relative() <= tolerance && self.same_argmax != Some(false))
    }
}

/// Runs the reference's tokens through `model` and compares every activation it holds, in the order of the pass.
///
/// # Errors
/// When the file is not a reference, or one of its tensors names no hook of this model or has another shape.
pub fn verify(model: &Model, reference: &Path) -> Result<Vec<Difference>, VerifyError> {
    run(model, None, reference)
}

/// As [`verify`], beside the same model loaded in f64.
///
/// Some trained models amplify rounding so much that no two f32 programs agree to [`TOLERANCE`]. The exact values
/// tell rounding from a mistake: a correct reference is about as far from them as this model in f32 is.
///
/// # Errors
/// As [`verify`].
pub fn second_look(model: &Model, exact: &Model, reference: &Path) -> Result<Vec<Difference>, VerifyError> {
    run(model, Some(exact), reference)
}

fn run(model: &Model, exact: Option<&Model>, reference: &Path) -> Result<Vec<Difference>, VerifyError> {
    let bad = |reason: String| VerifyError::Reference { path: reference.display().to_string(), reason };
    let file = Weights::open_file(reference, Kind::Double)?;
    if !file.has("input_ids") {
        return Err(bad("no tensor `input_ids`".into()));
    }
    let available = hook_points(model.spec());
    let mut names = Vec::new();
    for name in file.shapes().map(|(name, _)| name).filter(|name| *name != "input_ids") {
        let point = point_of(name, model.spec().n_layers).filter(|p| available.contains(p));
        names.push((point.ok_or_else(|| bad(format!("`{name}` is no hook of this model")))?, name));
    }
    if names.is_empty() {
        return Err(bad("no activations beside `input_ids`".into()));
    }
    names.sort();
    let ids = file.take_any("input_ids")?.to_kind(Kind::Int64);
    let pass = |model: &Model| -> Result<Capture, ModelError> {
        let mut capture = Capture::new(names.iter().map(|(point, _)| *point).collect::<Selection>());
        model.forward(&ids, &mut capture)?;
        Ok(capture)
    };
    let capture = pass(model)?;
    let exact = exact.map(pass).transpose()?;
    let compare_one = |(point, name): &(HookPoint, &str)| {
        let ours = capture.get(*point).ok_or_else(|| bad(format!("`{name}` was not computed")))?;
        let theirs = file.take_any(name)?;
        if ours.size() != theirs.size() {
            return Err(bad(format!("`{name}` is {:?}, the model gives {:?}", theirs.size(), ours.size())));
        }
        let mut difference = compare(*point, ours, &theirs)?;
        if let Some(exact) = exact.as_ref().and_then(|capture| capture.get(*point)) {
            let (reference, rounding) = (distance(exact, &theirs)?, distance(ours, exact)?);
            difference.exact = Some(Exact {
                reference: reference.f_max().map_err(ModelError::from)?.double_value(&[]),
                rounding: rounding.f_max().map_err(ModelError::from)?.double_value(&[]),
            });
        }
        Ok(difference)
    };
    names.iter().map(compare_one).collect()
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

fn compare(point: HookPoint, ours: &Tensor, theirs: &Tensor) -> Result<Difference, ModelError> {
    let ours = ours.to_device(Device::Cpu).to_kind(Kind::Double);
    let difference = distance(&ours, theirs)?;
    let finite = theirs.f_masked_select(&theirs.f_isfinite()?)?;
    let worst = difference.f_argmax(None, false)?.int64_value(&[]);
    let same_argmax = (point == HookPoint::Logits)
        .then(|| ours.f_argmax(-1, false)?.f_equal(&theirs.f_argmax(-1, false)?))
        .transpose()?;
    Ok(Difference {
        point,
        max_abs: difference.f_max()?.double_value(&[]),
        scale: finite.f_square()?.f_mean(Kind::Double)?.sqrt().double_value(&[]),
        at: unravel(worst, &theirs.size()),
        n: theirs.numel(),
        same_argmax,
        exact: None,
    })
}

/// Elementwise. Equal infinities (masked scores) differ by nothing, although their difference is NaN.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor, ModelError> {
    let [a, b] = [a, b].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double));
    Ok(a.f_sub(&b)?.abs().f_masked_fill(&a.f_eq_tensor(&b)?, 0.0)?)
}

fn unravel(mut flat: i64, shape: &[i64]) -> Vec<i64> {
    let mut index: Vec<i64> = shape
        .iter()
        .rev()
        .map(|n| {
            let i = flat % n;
            flat /= n;
            i
        })
        .collect();
    index.reverse();
    index
}
