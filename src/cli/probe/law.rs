//! `probe law`: the law of next-token prediction.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use clap::Args;
use layerscope::{
    hook::HookPoint,
    lens::fit::split,
    probe::{Control, Law, LawRow, Norming, ProbeError, Residuals, Sample, blocks, decay, disagreement},
    probes::interval::FEW,
    results::run::{Found, METRICS, MetricRow, RunDir, write_metrics},
    results::statistics::Estimate,
    sources::text::Window,
    states::States,
};
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        numbers::{LEGEND, say_why_none},
        output::{Output, shown},
        source::{Source, counts},
        table::Table,
    },
    ended,
};

/// Regress the next token's id on every layer's states, and fit the decay of what is left over
///
/// After He and Su (2024), with held-out residuals, intervals over documents, and controls: ids shuffled, the token itself, its
/// neighbours, and one regression for all layers.
#[derive(Debug, Args)]
pub(crate) struct LawArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// What is done to states below the last layer; that one is read behind the final norm
    #[arg(long, value_enum, default_value_t = Norming::Initialized, value_name = "NORM")]
    norm: Norming,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl LawArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let source = Source::open(&self.model, &self.text, output)?;
        source.session.announce(output);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        let split = split(&text.windows, self.common.seed);
        output.note(format!("documents: {}; {}", text.lead, split.note));
        let mut manifest =
            source.manifest("probe law", &self.model, &text.lead, self.text.pack, &self.common, output)?;
        manifest.config = json!({
            "norm": format!("{:?}", self.norm).to_lowercase(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        self.leakage.of_split(&text.windows, &split, ("the regression", &source), &mut manifest, output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already; nothing to do", self.out.display()));
            output.result(json!({ "out": shown(&self.out), "complete": true }))?;
            return Ok(());
        }
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        let model = source.session.load(output)?;
        let (n_layers, d) = (model.spec().n_layers, model.spec().d_model);
        let mut seen = vec![0u64; source.session.spec.vocab];
        text.windows.iter().flat_map(|w| &w.ids).for_each(|id| seen[*id as usize] += 1);
        let sides = blocks(&split, &text.windows, n_layers, d);
        let mut law = Law::new(n_layers, d, &seen, self.norm, self.common.seed, sides);
        let points: Vec<HookPoint> = (0..n_layers).map(HookPoint::resid_pre).collect();
        let tokens: usize =
            split.train.iter().chain(&split.held_out).map(|i| text.windows[*i].ids.len()).sum();
        let bar = output.bar("summing", "tokens", Some(tokens as u64));
        let batch = source.session.batch_tokens(self.batch_tokens);
        for (side, held_out) in [(&split.train, false), (&split.held_out, true)] {
            let windows: Vec<&Window> = side.iter().map(|i| &text.windows[*i]).collect();
            let pass = States::each(&model, &points, &windows, batch, |states, _| {
                if stop.load(Ordering::Relaxed) {
                    return Err(ProbeError::Interrupted);
                }
                law.add(states, model.unembed(), held_out)?;
                bar.inc(states.rows() as u64);
                Ok(())
            });
            pass.map_err(ended)?;
        }
        bar.finish_and_clear();
        let spinner = output.bar("solving without each block of documents", "blocks", None);
        let measured = law.measure();
        spinner.finish_and_clear();
        let measured = measured?;
        let metrics = measured.metrics();
        write_metrics(&self.out, &metrics)?;
        dir.finish(counts(text.stats, metrics.len() as u64), None)?;
        self.report(&measured, &metrics, output)
    }

    fn report(&self, measured: &Residuals, metrics: &[MetricRow], output: Output) -> Result<(), Failure> {
        let rows = &measured.rows;
        let (decays, missing) = decays(measured);
        output.print(&format!(
            "prediction residual of the next token's id: in sample, adjusted, then held out for it and for controls\n{}{decays}",
            residuals(rows)
        ))?;
        for why in missing {
            output.note(why);
        }
        say_why_none(metrics, output);
        if let Some(warning) = disagreement(rows) {
            output.warn(warning);
        }
        output.wrote(&self.out, "all numbers");
        let of = |of| decay(rows, Control::Next, of).ok();
        let (fitted, held, every) = (of(Sample::InSample), of(Sample::HeldOut), of(Sample::CrossValidated));
        let less = measured.less_shuffled(Sample::CrossValidated);
        output.result(json!({
            "out": shown(&self.out),
            "rho": fitted.map(|d| d.rho), "pearson": fitted.map(|d| d.pearson),
            "rho_held_out": held.map(|d| d.rho), "pearson_held_out": held.map(|d| d.pearson),
            "rho_cross_validated": every.map(|d| d.rho),
            "rho_less_shuffled": less.map(|e| json!({
                "estimate": e.estimate, "lower": e.lower(), "upper": e.upper(), "n_eff": e.n_eff,
            })),
        }))?;
        Ok(())
    }
}

const CONTROLS: [Control; 5] =
    [Control::Next, Control::Shuffled, Control::Current, Control::Previous, Control::NextNext];

/// Residuals by layer.
fn residuals(rows: &[LawRow]) -> Table {
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
fn decays(measured: &Residuals) -> (String, Vec<String>) {
    let mut table =
        Table::new(["target", "rho in sample", "rho held out", "rho, every document held out once"]);
    let number = |e: Option<Estimate>| e.map_or_else(|| "-".into(), shown_with_interval);
    let (mut n, mut missing) = (0, Vec::new());
    for control in CONTROLS {
        match Sample::ALL.map(|of| decay(&measured.rows, control, of)).into_iter().find_map(Result::err) {
            None => {
                let cells = Sample::ALL.map(|of| number(measured.rho(control, of)));
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
    let less = Sample::ALL.map(|of| number(measured.less_shuffled(of)));
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
