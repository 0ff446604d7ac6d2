//! `trace`: which layer and position carries an answer.

mod case;
mod prompts;
mod report;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use clap::{ArgGroup, Args, ValueEnum};
use layerscope::{
    hook::BlockHook,
    intervene::patch::{Direction, Experiment, Levels, Map, PatchError, noise},
    model::Model,
    results::run::{Claim, Counts, Found, METRICS, MetricRow, RunDir, write_metrics},
    sources::text::Tokenizer,
};
use serde_json::json;
use tch::Tensor;

use self::{
    case::{Case, Prompts},
    report::json as whole,
};
use super::{
    args::{CommonArgs, Layers, ModelArgs},
    exit::Failure,
    interrupt::on_interrupt,
    lines::Lines,
    output::Output,
    session::Session,
};

/// What is patched: the hooks that trace has, in the order of a block.
const HOOKS: [BlockHook; 3] = [BlockHook::ResidPre, BlockHook::AttnOut, BlockHook::MlpOut];

/// One of them, in any spelling.
fn hook(name: &str) -> Result<BlockHook, String> {
    let hook = BlockHook::parse(name).filter(|hook| HOOKS.contains(hook));
    hook.ok_or_else(|| "trace patches resid_pre, attn_out and mlp_out".to_owned())
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// logit(answer) - logit(foil)
    LogitDiff,
    /// Probability of the answer
    Probability,
    /// KL(clean ‖ patched)
    Kl,
}

/// Which run is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Clean activations into the corrupted run
    Denoise,
    /// Corrupted activations into the clean run
    Noise,
}

/// Patch every layer and position between a clean and a corrupted run: activation patching and causal tracing
///
/// Effects are on the scale where the corrupted run is 0 and the clean one is 1. Give a second prompt of as many tokens (--corrupted), or
/// the words whose embeddings get noise (--subject).
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("corruption").required(true).args(["corrupted", "subject", "prompts"]))]
pub(crate) struct Trace {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt that gives the answer
    #[arg(long, required_unless_present = "prompts", conflicts_with = "prompts", value_name = "STR")]
    clean: Option<String>,
    /// The prompt that does not, of as many tokens
    #[arg(long, value_name = "STR")]
    corrupted: Option<String>,
    /// Words of the clean prompt whose embeddings get noise
    #[arg(long, value_name = "STR")]
    subject: Option<String>,
    /// Many prompts instead: a JSON object per line with `clean`, `corrupted` or `subject`, and where wanted `answer` and `foil`. Effects
    /// are means over prompts with their intervals, by what a position is: before, changed, between, last
    #[arg(long, conflicts_with_all = ["answer", "foil"], value_name = "FILE")]
    prompts: Option<PathBuf>,
    #[arg(
        long,
        value_name = "X",
        help = "Size of the noise, in standard deviations of the subject's embeddings [default: 3]"
    )]
    noise: Option<f64>,
    #[arg(
        long,
        value_name = "N",
        help = "Draws of the noise; every number is a mean over them [default: 10]"
    )]
    samples: Option<usize>,
    /// The answer, one token, often with a space in front; by default what the model says of the clean prompt
    #[arg(long, value_name = "STR")]
    answer: Option<String>,
    /// What it is compared with, one token; by default what the model says of the corrupted prompt
    #[arg(long, value_name = "STR")]
    foil: Option<String>,
    #[arg(
        long,
        value_parser = hook,
        help = "What is patched: resid_pre, attn_out or mlp_out; repeat for several; by default all three",
        value_name = "HOOK"
    )]
    hook: Vec<BlockHook>,
    /// Which run is patched
    #[arg(long, value_enum, default_value_t = Way::Denoise, value_name = "WAY")]
    direction: Way,
    #[arg(
        long,
        default_value_t = 1,
        help = "Layers patched together for attn_out and mlp_out, around each",
        value_name = "N"
    )]
    window: usize,
    /// What the terminal shows; files and --json have all three
    #[arg(long, value_enum, default_value_t = Measure::LogitDiff, value_name = "METRIC")]
    metric: Measure,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Write a run directory
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl Trace {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        if self.subject.is_none()
            && self.prompts.is_none()
            && (self.noise.is_some() || self.samples.is_some())
        {
            return Err(Failure::usage(anyhow!("--noise and --samples go with --subject")));
        }
        if self.window == 0 || self.samples() == 0 || !(self.scale() >= 0.0 && self.scale().is_finite()) {
            return Err(Failure::usage(anyhow!(
                "--window and --samples must be at least 1, --noise not below 0"
            )));
        }
        let lines = self.prompts.as_deref().map(Lines::read).transpose().map_err(Failure::usage)?;
        let session = Session::open(&self.model, output)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let layers = session.layers(self.layers.as_ref())?;
        match lines {
            Some(lines) => self.many(&lines, &session, &tokenizer, &layers, (&stop, output)),
            None => self.one(&session, &tokenizer, &layers, (&stop, output)),
        }
    }

    /// The prompts of the command line: a map by position.
    fn one(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        layers: &[usize],
        (stop, output): (&AtomicBool, Output),
    ) -> Result<(), Failure> {
        let case = Case {
            clean: self.clean.clone().unwrap_or_default(),
            corrupted: self.corrupted.clone(),
            subject: self.subject.clone(),
            answer: self.answer.clone(),
            foil: self.foil.clone(),
        };
        let prompts = case.prompts(session, tokenizer)?;
        session.announce(output);
        let claim = self.claim(session, tokenizer, layers, None, output)?;
        let model = session.load(output)?;
        let experiment = self.experiment(session, tokenizer, &model, &prompts)?;
        let bar = output.bar("patching", "layers", Some(self.steps(&experiment, layers)));
        let (levels, maps) = self.maps(&experiment, layers, &mut || {
            bar.inc(1);
            stop.load(Ordering::Relaxed)
        })?;
        bar.finish_and_clear();
        let piece = |id: i64| tokenizer.piece(id as u32).shown;
        let tokens: Vec<String> = prompts.clean.iter().map(|id| piece(*id)).collect();
        let samples = experiment.noise.as_ref().map_or(1, |n| n.size()[0]);
        let kind = prompts.kind();
        let rows = Self::rows(&levels, &maps, (&tokens, kind), samples, session.spec.n_layers);
        if let Some(claim) = claim {
            write(claim, &rows, (1, tokens.len()))?;
        }
        output.print(&self.table(&levels, &maps, &tokens, &piece))?;
        if let Some(out) = &self.out {
            output.wrote(out, "every effect of every measure");
        }
        output.result(whole(&levels, &maps, &prompts, tokenizer))?;
        Ok(())
    }

    /// Layers to patch, of all hooks.
    fn steps(&self, experiment: &Experiment<'_>, layers: &[usize]) -> u64 {
        let of = |h: &BlockHook| layers.iter().filter(|l| experiment.layers_of(*h).contains(l)).count();
        self.hooks().iter().map(of).sum::<usize>() as u64
    }

    /// Both runs, and the map of every hook. `progress` is called after every layer and says whether to stop.
    fn maps(
        &self,
        experiment: &Experiment<'_>,
        layers: &[usize],
        progress: &mut dyn FnMut() -> bool,
    ) -> Result<(Levels, Vec<Map>), Failure> {
        let hooks = self.hooks();
        let levels = experiment.levels(&hooks).map_err(failed)?;
        let map = |hook: &BlockHook| experiment.map(&levels, *hook, layers, self.window, progress);
        let maps = hooks.iter().map(map).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok((levels, maps))
    }

    fn scale(&self) -> f64 {
        self.noise.unwrap_or(3.0)
    }

    fn samples(&self) -> usize {
        self.samples.unwrap_or(10)
    }

    fn hooks(&self) -> Vec<BlockHook> {
        let asked = |hook: &BlockHook| self.hook.is_empty() || self.hook.contains(hook);
        HOOKS.into_iter().filter(asked).collect()
    }

    fn experiment<'a>(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        model: &'a Model,
        prompts: &Prompts,
    ) -> Result<Experiment<'a>, Failure> {
        let ids = |ids: &[i64]| Tensor::from_slice(ids).view([1, -1]);
        let clean = ids(&prompts.clean);
        let drawn =
            |places: &[i64]| noise(model, &clean, places, self.scale(), self.samples(), self.common.seed);
        let noise =
            (!prompts.subject.is_empty()).then(|| drawn(&prompts.subject)).transpose().map_err(failed)?;
        Ok(Experiment {
            model,
            vocab: (tokenizer.max_id() as usize + 1).min(session.spec.vocab),
            corrupted: ids(&prompts.corrupted),
            clean,
            noise,
            direction: if self.direction == Way::Denoise { Direction::Denoise } else { Direction::Noise },
            answer: prompts.answer,
            foil: prompts.foil,
            batch_tokens: session.batch_tokens(self.batch_tokens),
        })
    }

    fn claim(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        layers: &[usize],
        prompts: Option<&str>,
        output: Output,
    ) -> Result<Option<Claim>, Failure> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest("trace", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        manifest.config = json!({
            "clean": self.clean, "prompts": prompts, "corrupted": self.corrupted, "subject": self.subject, "noise": self.scale(),
            "samples": self.samples(), "answer": self.answer, "foil": self.foil, "window": self.window,
            "direction": format!("{:?}", self.direction).to_lowercase(), "layers": layers,
            "hooks": self.hooks().iter().map(|h| h.short_name()).collect::<Vec<_>>(),
        });
        let claim = output.claimed(RunDir::claim(out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already; made again", out.display()));
        }
        Ok(Some(claim))
    }
}

/// Writes the rows of so many documents and tokens.
fn write(claim: Claim, rows: &[MetricRow], (documents, tokens): (usize, usize)) -> Result<(), Failure> {
    let dir = claim.begin(&|p| p == Path::new(METRICS))?;
    write_metrics(dir.path(), rows)?;
    let counts = Counts {
        documents: documents as u64,
        tokens: tokens as u64,
        rows: rows.len() as u64,
        ..Counts::default()
    };
    dir.finish(counts, None)?;
    Ok(())
}

fn failed(error: PatchError) -> Failure {
    match error {
        PatchError::Interrupted => Failure::interrupted(error),
        PatchError::Outside { .. } => Failure::usage(error),
        other => other.into(),
    }
}
