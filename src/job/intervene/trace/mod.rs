//! `trace`: which layer and position carries an answer.

mod case;
mod map;
mod rows;
mod work;

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::case::{Case, Prompts};
use crate::{
    hook::BlockHook,
    intervene::patch::{Levels, Map},
    job::{Job, JobError, Layers, ModelSettings, Session, Watch, lines::Lines},
    results::run::MetricRow,
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
/// Effects are on the scale where the corrupted run is 0 and the clean one is 1. Give a second prompt of as many tokens
/// (--corrupted), or the words whose embeddings get noise (--subject).
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
    /// Many prompts instead: a JSON object per line with `clean`, `corrupted` or `subject`, and where wanted `answer`
    /// and `foil`. Effects are means over prompts with their intervals, by what a position is: before, changed,
    /// between, last
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
    /// Everything, for programs: of a pair of prompts its map (tokens, answers, both runs, effects by hook and
    /// measure), of several their means.
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

    crate::job::writes_out!();

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
    /// The hooks that are patched, in the order of a block.
    pub fn hooks(&self) -> Vec<BlockHook> {
        let chosen = |hook: &BlockHook| self.hook.is_empty() || self.hook.contains(hook);
        HOOKS.into_iter().filter(chosen).collect()
    }
}
