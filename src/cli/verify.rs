//! `verify`.

use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    job::{Job as _, Verify},
    model::verify::Difference,
};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Compare every activation with a reference somebody else computed; exit 3 when they differ
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    job: Verify,
    #[command(flatten)]
    output: OutputArgs,
}

impl VerifyArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let found = self.job.run(&output)?;
        output.print(&self.table(&found.differences))?;
        output.result(self.job.json(&found))?;
        if let Some(failure) = found.failure {
            return Err(Failure::check(failure));
        }
        output.note(format!(
            "pass: {} activations agree{}",
            found.differences.len(),
            if self.job.all { "" } else { "; shown is the worst layer of each hook" }
        ));
        Ok(())
    }

    /// Failures always; else the worst layer of each hook.
    fn is_shown(&self, d: &Difference, all: &[Difference]) -> bool {
        let hook = d.point.short_name();
        let worse = |o: &&Difference| o.point.short_name() == hook && o.relative() > d.relative();
        let first = |o: &&Difference| o.point.short_name() == hook && o.relative() >= d.relative();
        self.job.all
            || !d.passes(self.job.tolerance)
            || (!all.iter().any(|o| worse(&o)) && all.iter().find(first).is_some_and(|o| o.point == d.point))
    }

    fn table(&self, differences: &[Difference]) -> String {
        let mut text = format!("{:<34} {:>9} {:>9} {:>9}\n", "hook", "|Δ|", "scale", "relative");
        for d in differences.iter().filter(|d| self.is_shown(d, differences)) {
            let verdict = words(d, self.job.tolerance);
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
