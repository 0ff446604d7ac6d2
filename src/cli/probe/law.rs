//! `probe law`: the law of next-token prediction.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use clap::Args;
use layerscope::{
    fit::split,
    hook::HookPoint,
    probe::{Control, Law, LawRow, Norming, ProbeError, decay, disagreement, documents, metric_rows},
    probes::Decay,
    run::{Found, METRICS, RunDir, write_metrics},
    states::States,
    text::Window,
};
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        output::{Output, shown},
        source::{Source, counts},
        table::Table,
    },
    ended,
};

/// Regress the next token's id on every layer's states, and fit the decay of what is left over
///
/// After He and Su (2024), with held-out residuals and controls: ids shuffled, the token itself, its neighbours, and one
/// regression for all layers.
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
        let mut law = Law::new(n_layers, d, &seen, self.norm, self.common.seed);
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
        let rows = law.rows()?;
        let metrics = metric_rows(&rows, documents(&split, &text.windows));
        write_metrics(&self.out, &metrics)?;
        dir.finish(counts(text.stats, metrics.len() as u64), None)?;
        self.report(&rows, output)
    }

    fn report(&self, rows: &[LawRow], output: Output) -> Result<(), Failure> {
        let controls =
            [Control::Next, Control::Shuffled, Control::Current, Control::Previous, Control::NextNext];
        let titles = controls.iter().map(|c| c.name());
        let mut table =
            Table::new(["layer", "in sample", "adjusted"].into_iter().chain(titles).chain(["shared"]));
        for next in rows.iter().filter(|r| r.control == Control::Next) {
            let held = |control: &Control| {
                let row = rows.iter().find(|r| r.layer == next.layer && r.control == *control);
                row.map_or_else(String::new, |r| format!("{:.4}", r.held_out))
            };
            // Of fewer rows than directions there is no adjusted residual.
            let adjusted =
                if next.adjusted.is_finite() { format!("{:.4}", next.adjusted) } else { "-".into() };
            let own = [next.layer.to_string(), format!("{:.4}", next.in_sample), adjusted];
            let cells =
                own.into_iter().chain(controls.iter().map(held)).chain([format!("{:.4}", next.shared)]);
            table.row(cells);
        }
        let mut decays = Table::new(["target", "rho", "Pearson r", "rho held out", "Pearson r held out"]);
        let (mut n, mut missing) = (0, Vec::new());
        for control in controls {
            match decay(rows, control) {
                Ok([fitted, held]) => {
                    // A residual that does not vary has no correlation with the layer.
                    let shown = |x: f64| if x.is_finite() { format!("{x:.4}") } else { "-".into() };
                    let cells = [fitted.rho, fitted.pearson, held.rho, held.pearson].map(shown);
                    decays.row(std::iter::once(control.name().to_owned()).chain(cells));
                    n += 1;
                }
                Err(why) => missing.push(why.to_string()),
            }
        }
        missing.dedup();
        let decays =
            if n > 0 { format!("\ndecay per layer over layers 1 to L\n{decays}") } else { String::new() };
        output.print(&format!(
            "prediction residual of the next token's id: in sample, adjusted, then held out for it and for controls\n{table}{decays}"
        ))?;
        for why in missing {
            output.note(why);
        }
        if let Some(warning) = disagreement(rows) {
            output.warn(warning);
        }
        output.wrote(&self.out, "all numbers");
        let found = decay(rows, Control::Next).ok();
        let side = |side: usize, of: fn(&Decay) -> f64| found.map(|both| of(&both[side]));
        output.result(json!({
            "out": shown(&self.out),
            "rho": side(0, |d| d.rho), "pearson": side(0, |d| d.pearson),
            "rho_held_out": side(1, |d| d.rho), "pearson_held_out": side(1, |d| d.pearson),
        }))?;
        Ok(())
    }
}
