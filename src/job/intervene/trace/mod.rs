//! `trace`: which layer and position carries an answer.

mod case;
mod map;
mod rows;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

pub use self::case::{Case, Prompts};
use crate::{
    hook::BlockHook,
    intervene::patch::{Direction, Experiment, Levels, Map, PatchError, Role, noise},
    job::{Job, JobError, Layers, ModelSettings, Session, Setting, Watch, claimed, lines::Lines},
    model::Model,
    results::{
        run::{Claim, Counts, Found, METRICS, MetricRow, RunDir, over, write_metrics},
        statistics::Intervals,
    },
    sources::text::Tokenizer,
};

/// Why an effect has no interval where no patch can have one.
pub const ROUNDING: &str = "0 but for rounding: what is patched is the same in both runs, or is not read";
/// What is patched: the hooks that trace has, in the order of a block.
const HOOKS: [BlockHook; 3] = [BlockHook::ResidPre, BlockHook::AttnOut, BlockHook::MlpOut];

/// One of them, in any spelling.
#[cfg(feature = "cli")]
fn hook(name: &str) -> Result<BlockHook, String> {
    let hook = BlockHook::parse(name).filter(|hook| HOOKS.contains(hook));
    hook.ok_or_else(|| "trace patches resid_pre, attn_out and mlp_out".to_owned())
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Measure {
    /// logit(answer) - logit(foil)
    #[default]
    LogitDiff,
    /// Probability of the answer
    Probability,
    /// KL(clean ‖ patched)
    Kl,
}

/// Which run is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Way {
    /// Clean activations into the corrupted run
    #[default]
    Denoise,
    /// Corrupted activations into the clean run
    Noise,
}

/// Patch every layer and position between a clean and a corrupted run: activation patching and causal tracing
///
/// Effects are on the scale where the corrupted run is 0 and the clean one is 1. Give a second prompt of as many tokens (--corrupted), or
/// the words whose embeddings get noise (--subject).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(
    feature = "cli",
    command(group = clap::ArgGroup::new("corruption").required(true).args(["corrupted", "subject", "prompts"]))
)]
pub struct Trace {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The prompt that gives the answer
    #[cfg_attr(
        feature = "cli",
        arg(long, required_unless_present = "prompts", conflicts_with = "prompts", value_name = "STR")
    )]
    pub clean: Option<String>,
    /// The prompt that does not, of as many tokens
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub corrupted: Option<String>,
    /// Words of the clean prompt whose embeddings get noise
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub subject: Option<String>,
    /// Many prompts instead: a JSON object per line with `clean`, `corrupted` or `subject`, and where wanted `answer` and `foil`. Effects
    /// are means over prompts with their intervals, by what a position is: before, changed, between, last
    #[cfg_attr(feature = "cli", arg(long, conflicts_with_all = ["answer", "foil"], value_name = "FILE"))]
    pub prompts: Option<PathBuf>,
    /// Size of the noise, in standard deviations of the subject's embeddings; by default 3.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "X",
            help = "Size of the noise, in standard deviations of the subject's embeddings [default: 3]"
        )
    )]
    pub noise: Option<f64>,
    /// Draws of the noise, which every number is a mean over; by default 10.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "N",
            help = "Draws of the noise; every number is a mean over them [default: 10]"
        )
    )]
    pub samples: Option<usize>,
    /// The answer, one token, often with a space in front; by default what the model says of the clean prompt
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub answer: Option<String>,
    /// What it is compared with, one token; by default what the model says of the corrupted prompt
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub foil: Option<String>,
    /// What is patched; by default all of `resid_pre`, `attn_out` and `mlp_out`.
    #[cfg_attr(feature = "cli", arg(
        long,
        value_parser = hook,
        help = "What is patched: resid_pre, attn_out or mlp_out; repeat for several; by default all three",
        value_name = "HOOK"
    ))]
    pub hook: Vec<BlockHook>,
    /// Which run is patched
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Way::Denoise, value_name = "WAY"))]
    pub direction: Way,
    /// Layers patched together for `attn_out` and `mlp_out`, around each.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            default_value_t = 1,
            help = "Layers patched together for attn_out and mlp_out, around each",
            value_name = "N"
        )
    )]
    pub window: usize,
    /// What the terminal shows; files and --json have all three
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Measure::LogitDiff, value_name = "METRIC"))]
    pub metric: Measure,
    /// Only these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Write a run directory
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            clean: None,
            corrupted: None,
            subject: None,
            prompts: None,
            noise: None,
            samples: None,
            answer: None,
            foil: None,
            hook: Vec::new(),
            direction: Way::Denoise,
            window: 1,
            metric: Measure::LogitDiff,
            layers: None,
            out: None,
            batch_tokens: None,
            force: false,
            seed: 0,
        }
    }
}

/// What was found.
pub struct Traced {
    /// The numbers, as in `metrics.parquet`; of several prompts means over them.
    pub rows: Vec<MetricRow>,
    /// Prompts that were traced.
    pub prompts: usize,
    /// Of the pair of prompts that the settings have: its map.
    pub pair: Option<Pair>,
    /// Spells the tokens.
    pub tokenizer: Tokenizer,
}

/// One pair of prompts.
pub struct Pair {
    /// In tokens.
    pub prompts: Prompts,
    /// The clean prompt's tokens, shown safely.
    pub tokens: Vec<String>,
    /// Both runs.
    pub levels: Levels,
    /// A map per hook.
    pub maps: Vec<Map>,
}

impl Traced {
    /// Everything, for programs: of a pair of prompts its map (tokens, answers, both runs, effects by hook and measure), of several their
    /// means.
    pub fn json(&self) -> Value {
        if let Some(pair) = &self.pair {
            return map::json(pair, &self.tokenizer);
        }
        let rows: Vec<Value> = self.rows.iter().map(map::mean).collect();
        json!({ "prompts": self.prompts, "rows": rows })
    }
}

impl Job for Trace {
    const COMMAND: &'static str = "trace";
    type Outcome = Traced;

    fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    fn set_out(&mut self, out: PathBuf) {
        self.out = Some(out);
    }

    fn answer(&self, found: Traced) -> Result<Value, JobError> {
        Ok(found.json())
    }

    fn run(&self, watch: &dyn Watch) -> Result<Traced, JobError> {
        self.check()?;
        let lines = self.prompts.as_deref().map(Lines::read).transpose()?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let tokenizer = session.tokenizer(watch)?;
        let layers = session.layers(self.layers.as_ref())?;
        match lines {
            Some(lines) => self.many(&lines, &session, tokenizer, &layers, watch),
            None => self.one(&session, tokenizer, &layers, watch),
        }
    }
}

impl Trace {
    fn check(&self) -> Result<(), JobError> {
        let [noise, samples, subject, window] = ["noise", "samples", "subject", "window"].map(Setting);
        let of_noise = self.noise.is_some() || self.samples.is_some();
        if self.subject.is_none() && self.prompts.is_none() && of_noise {
            return Err(JobError::usage(format!("{noise} and {samples} go with {subject}")));
        }
        if self.window == 0 || self.samples() == 0 || !(self.scale() >= 0.0 && self.scale().is_finite()) {
            let line = format!("{window} and {samples} must be at least 1, {noise} not below 0");
            return Err(JobError::usage(line));
        }
        Ok(())
    }

    /// The prompts that the settings have: a map by position.
    fn one(
        &self,
        session: &Session,
        tokenizer: Tokenizer,
        layers: &[usize],
        watch: &dyn Watch,
    ) -> Result<Traced, JobError> {
        let case = Case {
            clean: self.clean.clone().unwrap_or_default(),
            corrupted: self.corrupted.clone(),
            subject: self.subject.clone(),
            answer: self.answer.clone(),
            foil: self.foil.clone(),
        };
        let prompts = case.prompts(session, &tokenizer)?;
        session.announce(watch);
        let claim = self.claim(session, &tokenizer, layers, None, watch)?;
        let model = session.load(watch)?;
        let experiment = self.experiment(session, &tokenizer, model, &prompts)?;
        let progress = watch.begin("patching", "layers", Some(self.steps(&experiment, layers)));
        let (levels, maps) = self.maps(&experiment, layers, &mut || {
            progress.inc(1);
            watch.stopped()
        })?;
        drop(progress);
        let tokens: Vec<String> = prompts.clean.iter().map(|id| tokenizer.piece(*id as u32).shown).collect();
        let samples = experiment.noise.as_ref().map_or(1, |n| n.size()[0]);
        let kind = prompts.kind();
        let rows = rows::by_position(&levels, &maps, (&tokens, kind), samples, session.spec.n_layers);
        if let Some(claim) = claim {
            write(claim, &rows, (1, tokens.len()))?;
        }
        let pair = Some(Pair { prompts, tokens, levels, maps });
        Ok(Traced { rows, prompts: 1, pair, tokenizer })
    }

    /// The prompts of a file: means by what positions are.
    fn many(
        &self,
        lines: &Lines<Case>,
        session: &Session,
        tokenizer: Tokenizer,
        layers: &[usize],
        watch: &dyn Watch,
    ) -> Result<Traced, JobError> {
        let all = lines.all.iter().map(|(place, case)| {
            case.check().and_then(|()| case.prompts(session, &tokenizer)).map_err(|e| e.at(place))
        });
        let all: Vec<Prompts> = all.collect::<Result<_, JobError>>()?;
        session.announce(watch);
        let claim = self.claim(session, &tokenizer, layers, Some(&lines.sha256), watch)?;
        let model = session.load(watch)?;
        let progress = watch.begin("patching", "prompts", Some(all.len() as u64));
        let mut each = Vec::new();
        for prompts in &all {
            let experiment = self.experiment(session, &tokenizer, model, prompts)?;
            let (levels, maps) = self.maps(&experiment, layers, &mut || watch.stopped())?;
            each.push(rows::by_role(&levels, &maps, prompts, session.spec.n_layers));
            progress.inc(1);
        }
        drop(progress);
        let mut rows = over(&each, Intervals::default())?;
        for row in rows.iter_mut().filter(|row| self.brings_nothing(row, session.spec.n_layers)) {
            *row = MetricRow { lower: None, upper: None, reason: Some(ROUNDING.into()), ..row.clone() };
        }
        if let Some(claim) = claim {
            write(claim, &rows, (all.len(), all.iter().map(|p| p.clean.len()).sum()))?;
        }
        Ok(Traced { rows, prompts: all.len(), pair: None, tokenizer })
    }

    /// Whether an effect is 0 whatever the prompts are: states before anything differs are the same in both runs, and nothing behind the
    /// last position's reads what is patched elsewhere at the end of the network.
    fn brings_nothing(&self, row: &MetricRow, n_layers: usize) -> bool {
        let of = |role: Role| row.subject == role.to_string();
        let at_end = match row.hook.as_str() {
            "resid_pre" => row.layer as usize == n_layers,
            _ => row.layer as usize + 1 == n_layers && self.window == 1,
        };
        let rounding = row.estimate.abs() < 1e-3; // more would be an effect, and has to be seen
        row.unit == "effect" && rounding && (of(Role::Before) || (at_end && !of(Role::Last)))
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
    ) -> Result<(Levels, Vec<Map>), JobError> {
        let hooks = self.hooks();
        let levels = experiment.levels(&hooks).map_err(ended)?;
        let map = |hook: &BlockHook| experiment.map(&levels, *hook, layers, self.window, progress);
        let maps = hooks.iter().map(map).collect::<Result<Vec<_>, _>>().map_err(ended)?;
        Ok((levels, maps))
    }

    fn scale(&self) -> f64 {
        self.noise.unwrap_or(3.0)
    }

    fn samples(&self) -> usize {
        self.samples.unwrap_or(10)
    }

    /// The hooks that are patched, in the order of a block.
    pub fn hooks(&self) -> Vec<BlockHook> {
        let chosen = |hook: &BlockHook| self.hook.is_empty() || self.hook.contains(hook);
        HOOKS.into_iter().filter(chosen).collect()
    }

    fn experiment<'a>(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        model: &'a Model,
        prompts: &Prompts,
    ) -> Result<Experiment<'a>, JobError> {
        let ids = |ids: &[i64]| Tensor::from_slice(ids).view([1, -1]);
        let clean = ids(&prompts.clean);
        let drawn = |places: &[i64]| noise(model, &clean, places, self.scale(), self.samples(), self.seed);
        let noise =
            (!prompts.subject.is_empty()).then(|| drawn(&prompts.subject)).transpose().map_err(ended)?;
        Ok(Experiment {
            model,
            vocab: session.vocab(tokenizer),
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
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.config = json!({
            "clean": self.clean, "prompts": prompts, "corrupted": self.corrupted, "subject": self.subject, "noise": self.scale(),
            "samples": self.samples(), "answer": self.answer, "foil": self.foil, "window": self.window,
            "direction": self.direction, "layers": layers,
            "hooks": self.hooks().iter().map(|h| h.short_name()).collect::<Vec<_>>(),
        });
        let claim = claimed(RunDir::claim(out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already; made again", out.display()));
        }
        Ok(Some(claim))
    }
}

/// Writes the rows of so many documents and tokens.
fn write(claim: Claim, rows: &[MetricRow], (documents, tokens): (usize, usize)) -> Result<(), JobError> {
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

fn ended(error: PatchError) -> JobError {
    match error {
        PatchError::Interrupted => JobError::interrupted(error),
        PatchError::Outside { .. } => JobError::usage(error),
        other => other.into(),
    }
}
