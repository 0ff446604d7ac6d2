//! What must hold for every family, whatever its weights.

mod edits;
mod generation;
mod hooks;
mod invariance;
mod readout;
mod schedules;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use layerscope::{
    hook::{Capture, HookPoint, Selection, Tap, TapError},
    model::{Model, hook_points},
};
use tch::{Device, Kind, Tensor};

pub(crate) type Pass = BTreeMap<HookPoint, Tensor>;

/// A fixture folder, such as `families/gpt2`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Every tiny random model, by name.
pub(crate) fn families() -> Vec<(String, Model)> {
    let mut folders: Vec<_> = fixture("families").read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    folders.retain(|path| path.join("config.json").is_file());
    folders.sort();
    assert_eq!(folders.len(), 124);
    tch::set_num_threads(1); // the models are too small to share
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    folders.iter().map(|path| (name(path), load(path, Kind::Float))).collect()
}

/// Those whose tokens see none that follow.
pub(crate) fn decoders() -> Vec<(String, Model)> {
    families().into_iter().filter(|(_, model)| model.spec().encoder.is_none()).collect()
}

/// The two trained models, in f64: large activations of trained models make f32 noise, which would hide errors.
fn trained() -> Vec<(String, Model)> {
    ["gpt2-alice-8l", "llama-alice-6l"]
        .map(|name| (name.to_owned(), load(&fixture(name), Kind::Double)))
        .into()
}

fn load(path: &Path, kind: Kind) -> Model {
    Model::load(path, kind, Device::Cpu, |_, _| ()).unwrap()
}

/// Noise of sums in another order, as [`relative`] measures it; it follows from the arithmetic, not from a processor.
///
/// A sum of K products with unit roundoff u is off by about u·√K of its scale when rounding errors have random signs
/// (Higham & Mary 2019), and up to u·K when they do not. A block makes about eight such sums one after the other (two
/// norms, queries and keys, scores, mixed values, output, both halves of the MLP), and the stream carries all of them
/// on. The factor of 8 is what norms and products of two noisy numbers may add to that.
fn tolerance(model: &Model) -> f64 {
    let spec = model.spec();
    let unit_roundoff = if model.kind() == Kind::Double { 2f64.powi(-53) } else { 2f64.powi(-24) };
    let widest = spec.d_mlp.max(spec.d_model) as f64;
    8.0 * unit_roundoff * widest.sqrt() * (8 * spec.n_layers) as f64
}

/// Token ids `[batch, seq]` that look random.
fn ids(model: &Model, batch: usize, seq: usize) -> Tensor {
    let vocab = model.spec().vocab as u64;
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab) as i64
    };
    let ids: Vec<i64> = (0..batch * seq).map(|_| next()).collect();
    Tensor::from_slice(&ids).view([batch as i64, seq as i64])
}

/// A tap that wants every point, per-head results too, and may stop.
struct Every<F> {
    visit: F,
    stop: Option<HookPoint>,
}

impl<F: FnMut(HookPoint, Tensor) -> Tensor> Every<F> {
    fn new(visit: F) -> Self {
        Self { visit, stop: None }
    }
}

impl<F: FnMut(HookPoint, Tensor) -> Tensor> Tap for Every<F> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        Ok((self.visit)(point, value))
    }

    fn wants(&self, _point: HookPoint) -> bool {
        true
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.stop
    }
}

/// Everything that passes by, past `edit`.
pub(crate) fn everything(model: &Model, ids: &Tensor, edit: &mut dyn Tap) -> Pass {
    let all: Selection = hook_points(model.spec()).into_iter().collect();
    let mut capture = Capture::new(all).run_on();
    let mut both = Both(edit, &mut capture);
    let _logits = model.forward(ids, &mut both).unwrap().unwrap();
    capture.into_inner()
}

/// Two borrowed taps.
struct Both<'a>(&'a mut dyn Tap, &'a mut Capture);

impl Tap for Both<'_> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        let value = if self.0.wants(point) { self.0.visit(point, value)? } else { value };
        self.1.visit(point, value)
    }

    fn begin(&mut self, positions: Range<usize>) {
        self.0.begin(positions);
    }

    fn wants(&self, _point: HookPoint) -> bool {
        true
    }
}

/// Logits of a pass that nobody watches.
fn silent(model: &Model, ids: &Tensor) -> Tensor {
    model.forward(ids, &mut ()).unwrap().unwrap()
}

/// Largest difference relative to the root mean square of `b` plus the number itself, since a rounding is a share of
/// the number rounded, and a few activations are far larger than the rest; equal infinities differ by nothing.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let scale = b.masked_fill(&b.isfinite().logical_not(), 0.0).abs() + rms(&b).max(1e-30);
    ((&a - &b).abs() / scale).masked_fill(&a.eq_tensor(&b), 0.0).max().double_value(&[])
}

/// Root mean square of the finite numbers.
fn rms(value: &Tensor) -> f64 {
    let finite = value.masked_select(&value.isfinite());
    finite.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

/// Whether two values are the same to the last bit, but for the signs of zeros.
fn identical(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.eq_tensor(b).all().int64_value(&[]) == 1
}

/// Fails naming every point whose two values are further apart than `tolerance`.
fn assert_same(what: &str, a: &Pass, b: &Pass, tolerance: f64) {
    assert!(a.keys().eq(b.keys()), "{what}");
    for (point, x) in a {
        let error = relative(x, &b[point]);
        assert!(error < tolerance, "{what}: {point} differs by {error:e}");
    }
}
