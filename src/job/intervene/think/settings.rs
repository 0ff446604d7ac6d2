//! The settings of `think`.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::job::{IntervalSettings, JobError, ModelSettings, Setting};

/// Length of a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Rescaling {
    /// As it is
    #[default]
    None,
    /// The mean length of token embeddings
    Embedding,
}

/// Let a model think without words: a hidden state is the next input embedding, for some steps (Coconut)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(
    feature = "cli",
    command(group = clap::ArgGroup::new("prompts_from").required(true).args(["text", "data"]))
)]
pub struct Think {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// A prompt; `-` reads it from stdin; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR", conflicts_with = "data"))]
    pub text: Vec<String>,
    /// Prompts are the beginnings of these documents: .txt (one document), .jsonl, .json, .csv, .tsv or .parquet
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., value_name = "FILE"))]
    pub data: Vec<PathBuf>,
    /// Column of the text
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", requires = "data", conflicts_with = "text"))]
    pub text_column: Option<String>,
    /// Tokens of a prompt from `data`; 32 by default.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "N",
            requires = "data",
            conflicts_with = "text",
            help = "Tokens of a prompt from --data [default: 32]"
        )
    )]
    pub prompt_tokens: Option<NonZeroUsize>,
    /// Most prompts from `data`; 200 by default.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "N",
            requires = "data",
            conflicts_with = "text",
            help = "Most prompts from --data [default: 200]"
        )
    )]
    pub prompts: Option<NonZeroUsize>,
    /// Thoughts, K; 0 answers straight away
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 4, value_name = "K"))]
    pub steps: usize,
    /// Layer whose stream is fed back; by default the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYER"))]
    pub layer: Option<usize>,
    /// Apply the final norm to what is fed back; so it is by default for the last layer
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "no_norm"))]
    pub norm: bool,
    /// Feed the stream back as it is; so it is by default for every other layer
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_norm: bool,
    /// Length of a thought: its own, or the mean length of token embeddings
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Rescaling::None, value_name = "LENGTH"))]
    pub rescale: Rescaling,
    /// Thought i is multiplied by X^i (MCOUT)
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1.0, value_name = "X"))]
    pub decay: f64,
    /// Tokens of the answer
    #[cfg_attr(feature = "cli", arg(long, default_value = "16", value_name = "N"))]
    pub max_new_tokens: NonZeroUsize,
    /// What thoughts are replaced by: zero, mean (of all prompts), other (another prompt's), random (as long), greedy
    /// (the embedding of the model's own token), or none to measure no replacements; by default all that the prompts
    /// allow
    #[cfg_attr(feature = "cli", arg(long, value_delimiter = ',', value_name = "WHAT,…"))]
    pub replace: Vec<String>,
    /// Lens to read thoughts with, `logit` or a lens folder; repeat for several
    #[cfg_attr(feature = "cli", arg(long, default_value = "logit", value_name = "logit|LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Tokens kept of every reading
    #[cfg_attr(feature = "cli", arg(long, default_value = "5", value_name = "K"))]
    pub top_k: NonZeroUsize,
    /// Run the whole sequence for every thought and token, in place of keeping keys and values
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_cache: bool,
    /// Go on past the end-of-sequence token
    #[cfg_attr(feature = "cli", arg(long))]
    pub ignore_eos: bool,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Folder to write: metrics.parquet and thoughts.jsonl (a line per prompt)
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Think {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: Vec::new(),
            data: Vec::new(),
            text_column: None,
            prompt_tokens: None,
            prompts: None,
            steps: 4,
            layer: None,
            norm: false,
            no_norm: false,
            rescale: Rescaling::None,
            decay: 1.0,
            max_new_tokens: NonZeroUsize::MIN.saturating_add(15),
            replace: Vec::new(),
            lens: vec!["logit".into()],
            other_unembedding: false,
            top_k: NonZeroUsize::MIN.saturating_add(4),
            no_cache: false,
            ignore_eos: false,
            intervals: IntervalSettings::default(),
            batch_tokens: None,
            out: None,
            force: false,
            seed: 0,
        }
    }
}

impl Think {
    /// What the command line never lets through.
    pub(super) fn check(&self) -> Result<(), JobError> {
        let of_data = [
            ("text_column", self.text_column.is_some()),
            ("prompt_tokens", self.prompt_tokens.is_some()),
            ("prompts", self.prompts.is_some()),
        ];
        if self.text.is_empty() == self.data.is_empty() {
            let line = format!("prompts are either these or the beginnings of {}", Setting("data"));
            return Err(JobError::setting("text", line));
        }
        if let (Some((name, _)), true) = (of_data.iter().find(|(_, given)| *given), self.data.is_empty()) {
            return Err(JobError::setting(name, format!("goes with {}", Setting("data"))));
        }
        if self.norm && self.no_norm {
            return Err(JobError::setting("norm", format!("not together with {}", Setting("no_norm"))));
        }
        Ok(())
    }
}
