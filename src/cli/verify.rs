use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use layerscope::{
    hash::sha256_file,
    model::Model,
    verify::{Difference, TOLERANCE, second_look, verify},
};
use serde_json::{Value, json};
use tch::Kind;

use super::{
    args::{CommonArgs, ModelArgs},
    exit::Failure,
    output::Output,
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
    /// Largest error that passes, relative to the root mean square of the reference
    #[arg(long, default_value_t = TOLERANCE, value_name = "X")]
    tolerance: f64,
    #[command(flatten)]
    common: CommonArgs,
}

impl Verify {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let session = Session::open(&self.model, output)?;
        session.announce(output);
        let model = session.load(output)?;
        let differences = compare(&session, &model, &self.reference, self.tolerance, output)?;
        output.print(&self.table(&differences))?;
        let checked = check(&differences, self.tolerance, session.spec.n_layers);
        output.result(json!({
            "verdict": if checked.is_ok() { "pass" } else { "fail" },
            "tolerance": self.tolerance,
            "reference": self.reference,
            "hooks": differences.iter().map(|d| object(d, self.tolerance)).collect::<Vec<_>>(),
        }))?;
        checked?;
        output.note(format!("pass: {} activations agree", differences.len()));
        Ok(())
    }

    fn table(&self, differences: &[Difference]) -> String {
        let mut text = format!("{:<34} {:>9} {:>9} {:>9}\n", "hook", "max |Δ|", "scale", "relative");
        for d in differences {
            let verdict = match (d.passes(self.tolerance), d.same_argmax, d.exact) {
                (true, ..) if d.relative() <= self.tolerance => "ok".to_owned(),
                (true, _, Some(e)) => {
                    format!("ok: rounding; {:.1e} from exact, ours {:.1e}", e.reference, e.rounding)
                }
                (true, ..) => "ok".to_owned(),
                (false, Some(false), _) => "DIFFERS (top token too)".to_owned(),
                (false, ..) => "DIFFERS".to_owned(),
            };
            let name = d.point.to_string();
            let _infallible = writeln!(
                text,
                "{name:<34} {:>9.1e} {:>9.1e} {:>9.1e} {verdict}",
                d.max_abs,
                d.scale,
                d.relative()
            );
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Compares, and looks again beside the model in f64 where rounding alone may exceed the tolerance.
fn compare(
    session: &Session,
    model: &Model,
    reference: &Path,
    tolerance: f64,
    output: Output,
) -> Result<Vec<Difference>, Failure> {
    let differences = verify(model, reference)?;
    if model.kind() != Kind::Float || differences.iter().all(|d| d.passes(tolerance)) {
        return Ok(differences);
    }
    output
        .note("some differ by more than the tolerance; a second look, in f64, tells rounding from mistakes");
    let exact = Model::load(session.path(), Kind::Double, session.device, |_, _| ())?;
    Ok(second_look(model, &exact, reference)?)
}

/// Exit 3, naming the first hook and layer that differ.
fn check(differences: &[Difference], tolerance: f64, n_layers: usize) -> Result<(), Failure> {
    let failed: Vec<_> = differences.iter().filter(|d| !d.passes(tolerance)).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    Err(Failure::check(format!(
        "{} of {} activations differ; the first is {} (layer {}) by {:.1e} of its scale, at {:?}",
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
    let differences = compare(session, model, reference, TOLERANCE, output)?;
    check(&differences, TOLERANCE, model.spec().n_layers)?;
    Ok(json!({
        "verdict": "pass",
        "tolerance": TOLERANCE,
        "reference_sha256": sha256_file(reference, &|_| ())?,
        "worst": differences.iter().map(Difference::relative).fold(0.0, f64::max),
        "hooks": differences.len(),
    }))
}

fn object(d: &Difference, tolerance: f64) -> Value {
    json!({
        "hook": d.point.to_string(),
        "max_abs": d.max_abs,
        "scale": d.scale,
        "relative": d.relative(),
        "at": d.at,
        "same_argmax": d.same_argmax,
        "reference_from_exact": d.exact.map(|e| e.reference),
        "rounding": d.exact.map(|e| e.rounding),
        "pass": d.passes(tolerance),
    })
}
