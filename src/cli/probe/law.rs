//! `probe law`.

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        probe::{Law, Regressed},
    },
    probe::{Control, LawRow, Residuals, Sample, decay, disagreement},
    probes::interval::FEW,
    results::statistics::Estimate,
};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, say_why_none},
    output::{Output, shown},
    table::Table,
};

/// Regress the next token's id on every layer's states, and fit the decay of what is left over
///
/// After He and Su (2024), with held-out residuals, intervals over documents, and controls: ids shuffled, the token
/// itself, its neighbours, and one regression for all layers.
#[derive(Debug, Args)]
pub(crate) struct LawArgs {
    #[command(flatten)]
    job: Law,
    #[command(flatten)]
    output: OutputArgs,
}

impl LawArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let out = &self.job.out;
        let Some(Regressed { residuals, rows }) = self.job.run(&output)? else {
            output.result(json!({ "out": shown(out), "complete": true }))?;
            return Ok(());
        };
        let (decays, missing) = decays(&residuals);
        output.print(&format!(
            "prediction residual of the next token's id: in sample, adjusted, then held out for it and for controls\n{}{decays}",
            table(&residuals.rows)
        ))?;
        for why in missing {
            output.note(why);
        }
        say_why_none(&rows, output);
        if let Some(warning) = disagreement(&residuals.rows) {
            output.warn(warning);
        }
        output.wrote(out, "all numbers");
        let mut numbers = residuals.json();
        numbers["out"] = shown(out).into();
        output.result(numbers)?;
        Ok(())
    }
}

const CONTROLS: [Control; 5] =
    [Control::Next, Control::Shuffled, Control::Current, Control::Previous, Control::NextNext];

/// Residuals by layer.
fn table(rows: &[LawRow]) -> Table {
    let titles = CONTROLS.iter().map(|c| c.name());
    let mut table =
        Table::new(["layer", "in sample", "adjusted"].into_iter().chain(titles).chain(["shared"]));
    for next in rows.iter().filter(|r| r.control == Control::Next) {
        let held = |control: &Control| {
            let row = rows.iter().find(|r| r.layer == next.layer && r.control == *control);
            row.map_or_else(String::new, |r| format!("{:.4}", r.held_out))
        };
        // Of fewer rows than directions there is no adjusted residual.
        let adjusted = if next.adjusted.is_finite() { format!("{:.4}", next.adjusted) } else { "-".into() };
        let own = [next.layer.to_string(), format!("{:.4}", next.in_sample), adjusted];
        table.row(own.into_iter().chain(CONTROLS.iter().map(held)).chain([format!("{:.4}", next.shared)]));
    }
    table
}

/// The factors a layer, and why some are missing.
fn decays(residuals: &Residuals) -> (String, Vec<String>) {
    let mut table =
        Table::new(["target", "rho in sample", "rho held out", "rho, every document held out once"]);
    let number = |e: Option<Estimate>| e.map_or_else(|| "-".into(), shown_with_interval);
    let (mut n, mut missing) = (0, Vec::new());
    for control in CONTROLS {
        match Sample::ALL.map(|of| decay(&residuals.rows, control, of)).into_iter().find_map(Result::err) {
            None => {
                let cells = Sample::ALL.map(|of| number(residuals.rho(control, of)));
                table.row(std::iter::once(control.name().to_owned()).chain(cells));
                n += 1;
            }
            Some(why) => missing.push(why.to_string()),
        }
    }
    missing.dedup();
    if n == 0 {
        return (String::new(), missing);
    }
    let less = Sample::ALL.map(|of| number(residuals.less_shuffled(of)));
    table.row(std::iter::once("next less next-shuffled".to_owned()).chain(less));
    (format!("\ndecay: the residual's factor a layer, from layer 1 to L; {LEGEND}\n{table}"), missing)
}

/// `0.9312 ±0.0041`.
fn shown_with_interval(e: Estimate) -> String {
    let mark = if e.n_eff < FEW { "*" } else { "" };
    e.interval.map_or_else(
        |_| format!("{:.4}", e.estimate),
        |i| format!("{:.4} ±{:.4}{mark}", e.estimate, (i.upper - i.lower) / 2.0),
    )
}
