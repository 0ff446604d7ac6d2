use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use layerscope::{
    artifact::{LensConfig, LensFolder},
    fit::{Fit, FitError, FitLog, Split, Target, split, write_log},
    hook::{BlockHook, HookPoint},
    lenses::{
        LayerIndex, Precision, Readout, Rung,
        fit::{Loss, Optimizer},
    },
    model::{Model, Weights, hook_points},
    run::{Found, RunDir},
    text::Window,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{
    super::{
        args::{CommonArgs, Layers, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        output::Output,
        source::{AllWindows, Source, counts},
    },
    kinds,
    progress::Progress,
};

/// Tokens that are read when `--tokens` is not given: 2^18 to fit on and 2^14 to hold out.
const TOKENS: u64 = (1 << 18) + (1 << 14);
/// Where a fit that was stopped goes on from.
pub(super) const CHECKPOINT: &str = "checkpoint.safetensors";

/// Which lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind_ {
    /// One affine translator per layer
    Tuned,
    /// One translator for all layers, and the rungs between that and the tuned lens
    Shared,
    /// Closed-form regression of a later layer
    Linear,
    /// Closed-form (and, with --refine, KL) translators for several tokens ahead
    Future,
}

/// Fit a lens and write it to a folder
///
/// Streams: memory does not grow with the text beyond its token ids. Killed and repeated, it goes on from the last
/// checkpoint and ends with the same bytes.
#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) text: TextArgs,
    /// Kind of lens
    #[arg(long, value_enum)]
    pub(super) kind: Kind_,
    /// Folder to write; its name is the lens's
    #[arg(long, value_name = "LENSDIR")]
    pub(super) out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[arg(long, value_name = "LAYERS")]
    pub(super) layers: Option<Layers>,
    #[arg(
        long,
        help = "Where the lens reads: resid_pre, resid_mid, resid_post, attn_out or mlp_out",
        default_value = "resid_pre",
        value_name = "SITE"
    )]
    pub(super) site: String,
    /// What the lens shall say: the model's prediction (kl) or the text's token (ce)
    #[arg(long, value_enum, default_value_t = LossArg::Kl, value_name = "LOSS")]
    pub(super) loss: LossArg,
    /// What moves the translators: kfac, or the reference's sgd, adam or muon (tuned lenses only)
    #[arg(long, value_enum, default_value_t = OptimizerArg::Kfac, value_name = "OPTIMIZER")]
    pub(super) optimizer: OptimizerArg,
    /// Step size at the start; by default the optimiser's own
    #[arg(long, value_name = "X")]
    pub(super) rate: Option<f64>,
    /// Trust region of kfac, nats
    #[arg(long, default_value_t = 0.2, value_name = "NATS")]
    pub(super) trust: f64,
    /// Tokens per step; by default so that there are about 62 steps
    #[arg(long, value_name = "N")]
    pub(super) step_tokens: Option<NonZeroUsize>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    pub(super) batch_tokens: Option<NonZeroUsize>,
    /// Validations (there are eight) without gain after which a layer is left alone
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(super) patience: usize,
    /// What a tuned lens begins from: the closed form where that is better than the logit lens, or nothing
    #[arg(long, value_enum, default_value_t = Init::Ridge, value_name = "INIT")]
    pub(super) init: Init,
    /// Ridge of closed forms, relative to the mean variance
    #[arg(long, default_value_t = 1e-3, value_name = "X")]
    pub(super) ridge: f64,
    /// Rung of a shared lens: bias, affine, layer-bias, gain, standardised or rank-R; repeat for several, or `all`
    #[arg(long, default_value = "affine", value_name = "RUNG")]
    pub(super) rung: Vec<String>,
    /// Layer that a linear lens maps to; by default the last
    #[arg(long, value_name = "LAYER")]
    pub(super) target: Option<usize>,
    /// How many tokens ahead a future lens reads
    #[arg(long, default_value_t = 4, value_name = "K")]
    pub(super) horizons: usize,
    /// Refine a future lens's closed form by KL
    #[arg(long)]
    pub(super) refine: bool,
    /// Precision of the readout: fast (bf16 where the machine has it) or exact (f32)
    #[arg(long, value_enum, default_value_t = ReadoutArg::Fast, value_name = "PRECISION")]
    pub(super) readout: ReadoutArg,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub(super) checkpoint_seconds: u64,
    /// Start over in a folder that holds another lens
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// See [`Loss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(super) enum LossArg {
    Kl,
    Ce,
}

/// See [`Optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(super) enum OptimizerArg {
    Kfac,
    Sgd,
    Adam,
    Muon,
}

/// What a tuned lens begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(super) enum Init {
    Ridge,
    Zero,
}

/// See [`Precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ReadoutArg {
    Exact,
    Fast,
}

impl ReadoutArg {
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::Exact => Precision::Exact,
            Self::Fast => Precision::Fast,
        }
    }

    /// What it comes to on a device: without bf16 arithmetic a fast readout is an exact one.
    pub(crate) fn effective(self, device: tch::Device) -> &'static str {
        if self == Self::Fast && Readout::has_fast(device) { "fast" } else { "exact" }
    }

    /// Says so when fast was asked for and cannot be had.
    pub(crate) fn announce(self, device: tch::Device, output: Output) {
        if self == Self::Fast && self.effective(device) == "exact" {
            output.note("readout: f32, since this CPU has no bf16 arithmetic");
        }
    }
}

/// Everything decided before weights are read.
pub(super) struct Plan {
    pub(super) layers: Vec<LayerIndex>,
    pub(super) points: Vec<HookPoint>,
    pub(super) split: Split,
    pub(super) step_tokens: usize,
    pub(super) batch_tokens: usize,
    pub(super) rate: f64,
    pub(super) rungs: Vec<Rung>,
    /// Longest window.
    pub(super) seq_len: usize,
}

impl FitArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let source = Source::open(&self.model, &self.text, output)?;
        source.session.announce(output);
        let limited = self.text.tokens.is_none();
        self.text.tokens.get_or_insert(TOKENS);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        let plan = self.plan(&source, &text, options.seq_len)?;
        if limited && text.stats.reached_limit {
            output.note(format!("the first {TOKENS} tokens of the text are used; --tokens N for more"));
        }
        output.note(format!("documents: {}; {}", text.lead, plan.split.note));
        let mut manifest =
            source.manifest("lens fit", &self.model, &text.lead, self.text.pack, &self.common, output)?;
        manifest.config = self.config(&source, &plan);
        let dir = RunDir::start(&self.out, manifest, self.force, &owns)?;
        if dir.found() == Found::Complete {
            output.note(format!("{} is complete already; nothing to do", self.out.display()));
            output.result(json!({ "out": self.out, "complete": true }))?;
            return Ok(());
        }
        let model = source.session.load(output)?;
        let readout =
            Readout::new(model.unembed(), source.vocab(), self.readout.precision(), source.session.threads)?;
        self.readout.announce(source.session.device, output);
        let (targets, log) = self.fit(&model, &readout, &plan, &text.windows, stop, output)?;
        let tensors = kinds::tensors(&self, &plan, &targets)?;
        let config = self.lens_config(&source, &plan, &readout, dir.manifest())?;
        write_log(&self.out, &log, &plan.layers)?;
        LensFolder::write(&self.out, &config, &tensors)?;
        remove(&self.out.join(CHECKPOINT))?;
        let rows = text.windows.iter().map(|w| w.ids.len() as u64).sum();
        dir.finish(counts(text.stats, rows), None)?;
        self.report(&plan, &log, output)
    }

    fn plan(&self, source: &Source, text: &AllWindows, seq_len: usize) -> Result<Plan, Failure> {
        let spec = &source.session.spec;
        let site = kinds::site(&self.site).map_err(|e| Failure::usage(anyhow!(e)))?;
        if self.target.is_some() && self.kind != Kind_::Linear {
            return Err(Failure::usage(anyhow!(
                "--target is for linear lenses; the others map to the last layer"
            )));
        }
        let last = self.target.unwrap_or(spec.n_layers);
        if last > spec.n_layers || last == 0 {
            return Err(Failure::usage(anyhow!(
                "--target: no layer {last} above the first; the last is {}",
                spec.n_layers
            )));
        }
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| *l < last);
        if layers.is_empty() {
            return Err(Failure::usage(anyhow!(
                "--layers: none is below layer {last}, which the lens maps to"
            )));
        }
        let point = |l: &usize| HookPoint::Block(*l, site);
        let points: Vec<HookPoint> = layers.iter().map(point).collect();
        let there = hook_points(spec);
        if let Some(missing) = points.iter().find(|p| !there.contains(p)) {
            return Err(Failure::usage(anyhow!("--site {}: this model has no {missing}", self.site)));
        }
        let rungs = kinds::rungs(&self.rung).map_err(|e| Failure::usage(anyhow!(e)))?;
        let split = split(&text.windows, self.common.seed);
        let tokens: usize = split.train.iter().map(|i| text.windows[*i].ids.len()).sum();
        let step_tokens = self.step_tokens.map_or_else(
            || (tokens / 62).clamp(4096, 16_384).min((tokens / 16).max(1024)),
            NonZeroUsize::get,
        );
        let device_default = if source.session.device == tch::Device::Cpu { 2048 } else { 16_384 };
        let batch_tokens = self.batch_tokens.map_or(device_default, NonZeroUsize::get);
        let rate = self.rate.unwrap_or_else(|| self.default_rate(step_tokens, spec.d_model));
        if !(rate > 0.0 && rate.is_finite() && self.trust > 0.0 && self.ridge >= 0.0) {
            return Err(Failure::usage(anyhow!("--rate and --trust must be above 0, --ridge not below")));
        }
        if self.horizons == 0 {
            return Err(Failure::usage(anyhow!("--horizons must be at least 1")));
        }
        let longest = text.windows.iter().map(|w| w.ids.len()).max().unwrap_or(0);
        if self.kind == Kind_::Future && self.horizons > longest {
            return Err(Failure::usage(anyhow!(
                "--horizons {}: the longest window has {longest} tokens",
                self.horizons
            )));
        }
        self.check_text(&split, tokens, step_tokens)?;
        let layers = layers.into_iter().map(LayerIndex).collect();
        Ok(Plan { layers, points, split, step_tokens, batch_tokens, rate, rungs, seq_len })
    }

    /// What a fit would stumble over later, when the folder is there already.
    fn check_text(&self, split: &Split, tokens: usize, step_tokens: usize) -> Result<(), Failure> {
        let (optimizer, rung) = (self.optimizer(), Rung::Affine);
        if self.kind == Kind_::Shared && optimizer != Optimizer::Kfac {
            return Err(Failure::usage(layerscope::lenses::Error::Optimizer { optimizer, rung }));
        }
        if split.held_out.is_empty() {
            return Err(Failure::usage(FitError::NothingHeldOut));
        }
        let steps = match self.kind {
            Kind_::Tuned | Kind_::Shared => true,
            Kind_::Future => self.refine,
            Kind_::Linear => false,
        };
        if steps && 2 * tokens < step_tokens {
            return Err(Failure::usage(FitError::TooFew { tokens, need: step_tokens }));
        }
        Ok(())
    }

    /// The natural gradient's rate falls where a step has few tokens for the width of the model.
    fn default_rate(&self, step_tokens: usize, d: usize) -> f64 {
        let optimizer = self.optimizer();
        let base = optimizer.default_rate();
        if optimizer == Optimizer::Kfac {
            base * (step_tokens as f64 / (10.0 * d as f64)).min(1.0)
        } else {
            base
        }
    }

    pub(super) fn optimizer(&self) -> Optimizer {
        match self.optimizer {
            OptimizerArg::Kfac => Optimizer::Kfac,
            OptimizerArg::Sgd => Optimizer::Sgd,
            OptimizerArg::Adam => Optimizer::Adam,
            OptimizerArg::Muon => Optimizer::Muon,
        }
    }

    pub(super) fn loss(&self) -> Loss {
        match self.loss {
            LossArg::Kl => Loss::Kl,
            LossArg::Ce => Loss::Ce,
        }
    }

    /// What determines the lens.
    fn config(&self, source: &Source, plan: &Plan) -> Value {
        let name = |v: &dyn std::fmt::Debug| format!("{v:?}").to_lowercase();
        json!({
            "kind": name(&self.kind),
            "site": self.site,
            "layers": plan.layers.iter().map(|l| l.0).collect::<Vec<_>>(),
            "loss": name(&self.loss),
            "optimizer": name(&self.optimizer),
            "rate": plan.rate,
            "trust": self.trust,
            "step_tokens": plan.step_tokens,
            "batch_tokens": plan.batch_tokens,
            "patience": self.patience,
            "init": if self.optimizer() == Optimizer::Kfac { name(&self.init) } else { "zero".into() },
            "ridge": self.ridge,
            "rungs": plan.rungs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "target": self.target,
            "horizons": self.horizons,
            "refine": self.refine,
            "readout": self.readout.effective(source.session.device),
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": plan.seq_len,
            "pack": self.text.pack,
            "text_column": self.text.text_column,
        })
    }

    fn fit(
        &self,
        model: &Model,
        readout: &Readout,
        plan: &Plan,
        windows: &[Window],
        stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
        output: Output,
    ) -> Result<(Vec<Target>, FitLog), Failure> {
        let fit = Fit {
            model,
            readout,
            points: &plan.points,
            windows,
            split: &plan.split,
            step_tokens: plan.step_tokens,
            batch_tokens: plan.batch_tokens,
        };
        let path = self.out.join(CHECKPOINT);
        let mut targets = kinds::targets(self, &fit, plan, path.exists(), output)?;
        let mut log = FitLog::default();
        if path.exists() {
            log = restore(&path, &mut targets)?;
            output.note(format!("going on from step {}", targets[0].fitter.steps_done()));
        }
        let tokens = targets.iter().any(|t| t.fitter.recipe().steps > 0).then(|| fit.steps()).transpose();
        let tokens = tokens.map_err(Failure::usage)?.map_or(0, |steps| fit.tokens_of(&steps));
        let mut progress = Progress::new(output, tokens, path, self.checkpoint_seconds, stop);
        let ended = fit.run(&mut targets, &mut log, &mut progress);
        progress.close();
        ended.map_err(|e| match e {
            FitError::Interrupted => Failure::interrupted(e),
            other => other.into(),
        })?;
        Ok((targets, log))
    }

    fn lens_config(
        &self,
        source: &Source,
        plan: &Plan,
        readout: &Readout,
        manifest: &layerscope::run::Manifest,
    ) -> Result<LensConfig, Failure> {
        kinds::lens_config(self, source, plan, readout, manifest)
    }

    /// Prints what every layer gained.
    fn report(&self, plan: &Plan, log: &FitLog, output: Output) -> Result<(), Failure> {
        let (table, summary) = kinds::table(self, plan, log);
        output.print(&table)?;
        let (model, data) = (&self.model.model, self.text.data[0].display());
        output.note(format!(
            "next: layerscope lens eval --model {model} --data {data} --lens logit --lens {} --out RUN",
            self.out.display()
        ));
        output.result(json!({ "out": self.out, "held_out": summary }))?;
        Ok(())
    }
}

/// The files of a lens folder.
fn owns(relative: &Path) -> bool {
    let name = relative.to_string_lossy();
    matches!(&*name, "config.json" | "params.safetensors" | "params.pt" | "fit.parquet" | CHECKPOINT)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Puts targets and log back to where a checkpoint was taken.
fn restore(path: &Path, targets: &mut [Target]) -> Result<FitLog, Failure> {
    let file = Weights::open_file(path, Kind::Double)?;
    let names: Vec<String> = targets.iter().map(|t| t.name.clone()).collect();
    let mut parts: Vec<BTreeMap<String, Tensor>> = targets.iter().map(|_| BTreeMap::new()).collect();
    for (name, _) in file.shapes() {
        let place = name.split_once('/').and_then(|(place, rest)| Some((place.parse::<usize>().ok()?, rest)));
        if let Some((place, rest)) = place.filter(|(place, _)| *place < parts.len()) {
            parts[place].insert(rest.to_owned(), file.take_any(name)?);
        }
    }
    for (target, state) in targets.iter_mut().zip(&parts) {
        target.fitter.restore(state)?;
        target.init = None;
    }
    Ok(FitLog::restore(&file.take_any("log")?, &names)?)
}

/// A site by its short name.
pub(super) fn block_hook(name: &str) -> Option<BlockHook> {
    [BlockHook::ResidPre, BlockHook::ResidMid, BlockHook::ResidPost, BlockHook::AttnOut, BlockHook::MlpOut]
        .into_iter()
        .find(|hook| HookPoint::Block(0, *hook).short_name() == name)
}
