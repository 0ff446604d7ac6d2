use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    model::Model,
    model::verify::{Difference, Reference, TOLERANCE},
    results::hash::sha256_file,
    results::run::{Claim, Counts, DataFile, METRICS, MetricRow, RunDir, write_metrics},
};
use serde_json::{Value, json};
use tch::Kind;

use super::{
    args::{CommonArgs, ModelArgs},
    exit::Failure,
    output::{Output, shown},
    session::Session,
};

/// Compare every activation with a reference somebody else computed; exit 3 when they differ
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    model: ModelArgs,
    /// safetensors with `input_ids` and activations by hook name (scripts/reference.py writes one)
    #[arg(long, value_name = "FILE.safetensors")]
    reference: PathBuf,
    /// Largest error that passes, relative to the scale of the reference (see docs/verify.md)
    #[arg(long, default_value_t = TOLERANCE, value_name = "X")]
    tolerance: f64,
    /// Leave tensors of the reference aside that are no hook of the model, instead of stopping
    #[arg(long)]
    skip_unknown: bool,
    /// List every hook at every layer, not only the worst layer of each
    #[arg(long)]
    all: bool,
    /// Folder to write: the error at every hook, and the verdict for `report`
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Replace another run there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl Verify {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let session = Session::open(&self.model, output)?;
        session.announce(output);
        let claim = self.out.as_ref().map(|out| self.claim(&session, out, output)).transpose()?;
        let model = session.load(output)?;
        let reference = open(&model, &self.reference, self.skip_unknown, output)?;
        let differences = compare(&session, &model, &reference, self.tolerance, output)?;
        output.print(&self.table(&differences))?;
        let checked = check(&differences, self.tolerance, session.spec.n_layers);
        if let Some(claim) = claim {
            let dir = claim.begin(&|p| p == Path::new(METRICS))?;
            write_metrics(dir.path(), &rows(&differences, session.spec.n_layers))?;
            dir.finish(Counts::default(), Some(record(&differences, self.tolerance, &self.reference)?))?;
        }
        output.result(json!({
            "verdict": if checked.is_ok() { "pass" } else { "fail" },
            "tolerance": self.tolerance,
            "reference": self.reference,
            "skipped": reference.unknown(),
            "out": self.out.as_ref().map(shown),
            "hooks": differences.iter().map(|d| object(d, self.tolerance)).collect::<Vec<_>>(),
        }))?;
        checked?;
        output.note(format!(
            "pass: {} activations agree{}",
            differences.len(),
            if self.all { "" } else { "; shown is the worst layer of each hook" }
        ));
        Ok(())
    }

    fn claim(&self, session: &Session, out: &Path, output: Output) -> Result<Claim, Failure> {
        let bytes = std::fs::metadata(&self.reference)
            .map_err(|e| Failure::usage(anyhow!("{}: {e}", self.reference.display())))?
            .len();
        let sha256 = sha256_file(&self.reference, &|_| ())?;
        let mut manifest = session.model_manifest("verify", output)?;
        manifest.data = vec![DataFile { path: self.reference.display().to_string(), sha256, bytes }];
        manifest.config = json!({ "tolerance": self.tolerance });
        Ok(output.claimed(RunDir::claim(out, manifest, self.force)?))
    }

    /// Failures always; else the worst layer of each hook.
    fn is_shown(&self, d: &Difference, all: &[Difference]) -> bool {
        let hook = d.point.short_name();
        let worse = |o: &&Difference| o.point.short_name() == hook && o.relative() > d.relative();
        let first = |o: &&Difference| o.point.short_name() == hook && o.relative() >= d.relative();
        self.all
            || !d.passes(self.tolerance)
            || (!all.iter().any(|o| worse(&o)) && all.iter().find(first).is_some_and(|o| o.point == d.point))
    }

    fn table(&self, differences: &[Difference]) -> String {
        let mut text = format!("{:<34} {:>9} {:>9} {:>9}\n", "hook", "|Δ|", "scale", "relative");
        for d in differences.iter().filter(|d| self.is_shown(d, differences)) {
            let verdict = words(d, self.tolerance);
            let name = d.point.to_string();
            let _infallible = writeln!(
                text,
                "{name:<34} {:>9.1e} {:>9.1e} {:>9.1e} {verdict}",
                d.abs,
                d.scale,
                d.relative()
            );
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// What the table says of one hook.
fn words(d: &Difference, tolerance: f64) -> String {
    match (d.passes(tolerance), d.same_argmax, d.exact) {
        (true, ..) if d.relative() <= tolerance => "ok".to_owned(),
        (true, _, Some(e)) => {
            format!("ok: rounding; {:.1e} from exact, ours {:.1e}", e.reference, e.rounding)
        }
        (true, ..) => "ok".to_owned(),
        (false, ..) if d.is_constant_per_token(tolerance) => {
            "DIFFERS by a constant for each token (centred?)".to_owned()
        }
        (false, Some(false), _) => "DIFFERS (top token too)".to_owned(),
        (false, ..) => "DIFFERS".to_owned(),
    }
}

/// Opens a reference; tensors that are no hook of the model are an error, or named and left aside.
fn open(model: &Model, path: &Path, skip_unknown: bool, output: Output) -> Result<Reference, Failure> {
    let reference = Reference::open(model, path)?;
    match reference.unknown() {
        [] => {}
        [first, rest @ ..] if skip_unknown => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            output.note(format!("left aside, being no hook of this model: `{first}`{more}"));
        }
        [first, ..] => {
            let what = format!(
                "{}: `{first}` is no hook of this model; --skip-unknown leaves such aside",
                path.display()
            );
            return Err(Failure::failed(anyhow!(what)));
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
    output: Output,
) -> Result<Vec<Difference>, Failure> {
    let differences = reference.compare(model, None)?;
    if model.kind() != Kind::Float || differences.iter().all(|d| d.passes(tolerance)) {
        return Ok(differences);
    }
    output
        .note("some differ by more than the tolerance; a second look, in f64, tells rounding from mistakes");
    let exact = Model::load(session.path(), Kind::Double, session.device, |_, _| ())?;
    Ok(reference.compare(model, Some(&exact))?)
}

/// Exit 3, naming the first hook and layer that differ.
fn check(differences: &[Difference], tolerance: f64, n_layers: usize) -> Result<(), Failure> {
    let failed: Vec<_> = differences.iter().filter(|d| !d.passes(tolerance)).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let constant = if failed.iter().all(|d| d.is_constant_per_token(tolerance)) {
        "; all by a constant for each token, as after centring (TransformerLens' compatibility mode)"
    } else {
        ""
    };
    Err(Failure::check(format!(
        "{} of {} activations differ; the first is {} (layer {}) by {:.1e} of its scale, at {:?}{constant}",
        failed.len(),
        differences.len(),
        first.point,
        first.point.layer(n_layers),
        first.relative(),
        first.at
    )))
}

/// For a manifest: compares with `reference` at the usual tolerance, and fails as the command does.
pub(crate) fn verdict(
    session: &Session,
    model: &Model,
    reference: &Path,
    output: Output,
) -> Result<Value, Failure> {
    let opened = open(model, reference, false, output)?;
    let differences = compare(session, model, &opened, TOLERANCE, output)?;
    check(&differences, TOLERANCE, model.spec().n_layers)?;
    record(&differences, TOLERANCE, reference)
}

/// What a manifest says about a comparison.
fn record(differences: &[Difference], tolerance: f64, reference: &Path) -> Result<Value, Failure> {
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
        kind: "parity".into(),
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

fn object(d: &Difference, tolerance: f64) -> Value {
    json!({
        "hook": d.point.to_string(),
        "max_abs": d.max_abs,
        "abs": d.abs,
        "scale": d.scale,
        "relative": d.relative(),
        "at": d.at,
        "same_argmax": d.same_argmax,
        "reference_from_exact": d.exact.map(|e| e.reference),
        "rounding": d.exact.map(|e| e.rounding),
        "constant_per_token": d.is_constant_per_token(tolerance),
        "pass": d.passes(tolerance),
    })
}
