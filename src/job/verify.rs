//! `verify`: every activation against a reference that somebody else computed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Kind;

use super::{Job, JobError, ModelSettings, Session, Setting, Watch, claimed, shown};
use crate::{
    model::{
        Model,
        verify::{Difference, Reference, TOLERANCE},
    },
    results::{
        hash::sha256_file,
        run::{Claim, Counts, DataFile, METRICS, MetricRow, RowKind, RunDir, write_metrics},
    },
};

/// Compare every activation with a reference somebody else computed; exit 3 when they differ
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Verify {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// safetensors with `input_ids` and activations by hook name (scripts/reference.py writes one)
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.safetensors"))]
    pub reference: PathBuf,
    /// Largest error that passes, relative to the scale of the reference (see docs/verify.md)
    #[cfg_attr(feature = "cli", arg(long, default_value_t = TOLERANCE, value_name = "X"))]
    pub tolerance: f64,
    /// Leave tensors of the reference aside that are no hook of the model, instead of stopping
    #[cfg_attr(feature = "cli", arg(long))]
    pub skip_unknown: bool,
    /// List every hook at every layer, not only the worst layer of each
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
    /// Folder to write: the error at every hook, and the verdict for `report`
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Replace another run there
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            reference: PathBuf::new(),
            tolerance: TOLERANCE,
            skip_unknown: false,
            all: false,
            out: None,
            force: false,
            seed: 0,
        }
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Verified {
    /// Every activation of the reference, in the order of the model.
    pub differences: Vec<Difference>,
    /// Tensors of the reference that are no hook of the model, which were left aside.
    pub unknown: Vec<String>,
    /// Why the model is not the reference's; none where every activation agrees.
    pub failure: Option<String>,
}

impl Job for Verify {
    const COMMAND: &'static str = "verify";
    type Outcome = Verified;

    crate::job::writes_out!();

    fn answer(&self, found: Verified) -> Result<Value, JobError> {
        let answer = self.json(&found);
        found.failure.map_or(Ok(answer), |failure| Err(JobError::check(failure)))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Verified, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.announce(watch);
        let claim = self.out.as_ref().map(|out| self.claim(&session, out, watch)).transpose()?;
        let model = session.load(watch)?;
        let reference = open(model, &self.reference, self.skip_unknown, watch)?;
        let differences = compare(&session, model, &reference, self.tolerance, watch)?;
        let n_layers = session.spec.n_layers;
        if let Some(claim) = claim {
            let dir = claim.begin(&|p| p == Path::new(METRICS))?;
            write_metrics(dir.path(), &rows(&differences, n_layers))?;
            dir.finish(Counts::default(), Some(record(&differences, self.tolerance, &self.reference)?))?;
        }
        let failure = failure(&differences, self.tolerance, n_layers);
        Ok(Verified { differences, unknown: reference.unknown().to_vec(), failure })
    }
}

impl Verify {
    /// Verdict and every difference, for programs.
    pub fn json(&self, found: &Verified) -> Value {
        json!({
            "verdict": if found.failure.is_none() { "pass" } else { "fail" },
            "tolerance": self.tolerance,
            "reference": self.reference,
            "skipped": found.unknown,
            "out": self.out.as_ref().map(shown),
            "hooks": found.differences.iter().map(|d| d.json(self.tolerance)).collect::<Vec<_>>(),
        })
    }

    fn claim(&self, session: &Session, out: &Path, watch: &dyn Watch) -> Result<Claim, JobError> {
        let bytes = std::fs::metadata(&self.reference)
            .map_err(|e| JobError::usage(format!("{}: {e}", self.reference.display())))?
            .len();
        let sha256 = sha256_file(&self.reference, &|_| ())?;
        let mut manifest = session.model_manifest(self, watch)?;
        manifest.data = vec![DataFile { path: self.reference.display().to_string(), sha256, bytes }];
        manifest.config = json!({ "tolerance": self.tolerance });
        Ok(claimed(RunDir::claim(out, manifest, self.force)?, watch))
    }
}

/// Opens a reference; tensors that are no hook of the model are an error, or named and left aside.
fn open(model: &Model, path: &Path, skip_unknown: bool, watch: &dyn Watch) -> Result<Reference, JobError> {
    let reference = Reference::open(model, path)?;
    match reference.unknown() {
        [] => {}
        [first, rest @ ..] if skip_unknown => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            watch.note(&format!("left aside, being no hook of this model: `{first}`{more}"));
        }
        [first, ..] => {
            return Err(JobError::failed(format!(
                "{}: `{first}` is no hook of this model; {} leaves such aside",
                path.display(),
                Setting("skip_unknown")
            )));
        }
    }
    Ok(reference)
}

/// Compares, and looks again beside the model in f64 where rounding alone may exceed the tolerance.
fn compare(
    session: &Session,
    model: &Model,
    reference: &Reference,
    tolerance: f64,
    watch: &dyn Watch,
) -> Result<Vec<Difference>, JobError> {
    let differences = reference.compare(model, None)?;
    if model.kind() != Kind::Float || differences.iter().all(|d| d.passes(tolerance)) {
        return Ok(differences);
    }
    watch.note("some differ by more than the tolerance; a second look, in f64, tells rounding from mistakes");
    let exact = Model::load(session.path(), Kind::Double, session.device, |_, _| ())?;
    Ok(reference.compare(model, Some(&exact))?)
}

/// Names the first hook and layer that differ.
fn failure(differences: &[Difference], tolerance: f64, n_layers: usize) -> Option<String> {
    let failed: Vec<_> = differences.iter().filter(|d| !d.passes(tolerance)).collect();
    let first = failed.first()?;
    let constant = if failed.iter().all(|d| d.is_constant_per_token(tolerance)) {
        "; all by a constant for each token, as after centring (TransformerLens' compatibility mode)"
    } else {
        ""
    };
    Some(format!(
        "{} of {} activations differ; the first is {} (layer {}) by {:.1e} of its scale, at {:?}{constant}",
        failed.len(),
        differences.len(),
        first.point,
        first.point.layer(n_layers),
        first.relative(),
        first.at
    ))
}

/// For a manifest: compares with `reference` at the usual tolerance, and fails as the command does.
///
/// # Errors
/// [`JobError::Check`], naming the first hook and layer that differ.
pub fn verdict(
    session: &Session,
    model: &Model,
    reference: &Path,
    watch: &dyn Watch,
) -> Result<Value, JobError> {
    let opened = open(model, reference, false, watch)?;
    let differences = compare(session, model, &opened, TOLERANCE, watch)?;
    if let Some(failure) = failure(&differences, TOLERANCE, model.spec().n_layers) {
        return Err(JobError::Check(failure));
    }
    record(&differences, TOLERANCE, reference)
}

/// What a manifest says about a comparison.
fn record(differences: &[Difference], tolerance: f64, reference: &Path) -> Result<Value, JobError> {
    let pass = differences.iter().all(|d| d.passes(tolerance));
    Ok(json!({
        "verdict": if pass { "pass" } else { "fail" },
        "tolerance": tolerance,
        "reference_sha256": sha256_file(reference, &|_| ())?,
        "worst": differences.iter().map(Difference::relative).fold(0.0, f64::max),
        "hooks": differences.len(),
    }))
}

/// The relative error at every hook; an error that is no number is left out, and the verdict says `fail`.
fn rows(differences: &[Difference], n_layers: usize) -> Vec<MetricRow> {
    let row = |d: &Difference| MetricRow {
        subject: "model".into(),
        kind: RowKind::Parity,
        hook: d.point.short_name().into(),
        layer: d.point.layer(n_layers) as i32,
        source_layer: None,
        horizon: 1,
        metric: "relative_error".into(),
        unit: "of the reference's scale".into(),
        estimate: d.relative(),
        lower: None,
        upper: None,
        n: d.n as i64,
        n_clusters: 0,
        n_eff: 0.0,
        reason: Some("a comparison".into()),
    };
    let mut rows: Vec<MetricRow> =
        differences.iter().map(row).filter(|row| row.estimate.is_finite()).collect();
    // A reference may hold a hook under both of its names.
    rows.dedup_by(|next, kept| {
        let same = (&next.hook, next.layer) == (&kept.hook, kept.layer);
        if same {
            kept.estimate = kept.estimate.max(next.estimate);
        }
        same
    });
    rows
}
