//! What `think` is asked.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgGroup, Args, ValueEnum};

use super::super::args::{CommonArgs, ModelArgs};
use crate::cli::intervals::IntervalArgs;

/// Length of a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RescaleArg {
    /// As it is
    None,
    /// The mean length of token embeddings
    Embedding,
}

/// Let a model think without words: a hidden state is the next input embedding, for some steps (Coconut)
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("prompts_from").required(true).args(["text", "data"]))]
pub(crate) struct ThinkArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// A prompt; `-` reads it from stdin; repeat for several
    #[arg(long, value_name = "STR", conflicts_with = "data")]
    pub(super) text: Vec<String>,
    /// Prompts are the beginnings of these documents: .txt (one document), .jsonl, .json, .csv, .tsv or .parquet
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub(super) data: Vec<PathBuf>,
    /// Column of the text
    #[arg(long, value_name = "NAME", requires = "data", conflicts_with = "text")]
    pub(super) text_column: Option<String>,
    #[arg(
        long,
        value_name = "N",
        requires = "data",
        conflicts_with = "text",
        help = "Tokens of a prompt from --data [default: 32]"
    )]
    pub(super) prompt_tokens: Option<NonZeroUsize>,
    #[arg(
        long,
        value_name = "N",
        requires = "data",
        conflicts_with = "text",
        help = "Most prompts from --data [default: 200]"
    )]
    pub(super) prompts: Option<NonZeroUsize>,
    /// Thoughts, K; 0 answers straight away
    #[arg(long, default_value_t = 4, value_name = "K")]
    pub(super) steps: usize,
    /// Layer whose stream is fed back; by default the last
    #[arg(long, value_name = "LAYER")]
    pub(super) layer: Option<usize>,
    /// Apply the final norm to what is fed back; so it is by default for the last layer
    #[arg(long, conflicts_with = "no_norm")]
    norm: bool,
    /// Feed the stream back as it is; so it is by default for every other layer
    #[arg(long)]
    no_norm: bool,
    /// Length of a thought: its own, or the mean length of token embeddings
    #[arg(long, value_enum, default_value_t = RescaleArg::None, value_name = "LENGTH")]
    pub(super) rescale: RescaleArg,
    /// Thought i is multiplied by X^i (MCOUT)
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub(super) decay: f64,
    /// Tokens of the answer
    #[arg(long, default_value = "16", value_name = "N")]
    pub(super) max_new_tokens: NonZeroUsize,
    /// What thoughts are replaced by: zero, mean (of all prompts), other (another prompt's), random (as long), greedy (the embedding of
    /// the model's own token), or none to measure no replacements; by default all that the prompts allow
    #[arg(long, value_delimiter = ',', value_name = "WHAT,…")]
    pub(super) replace: Vec<String>,
    /// Lens to read thoughts with, `logit` or a lens folder; repeat for several
    #[arg(long, default_value = "logit", value_name = "logit|LENSDIR")]
    pub(super) lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    pub(super) other_unembedding: bool,
    /// Tokens kept of every reading
    #[arg(long, default_value = "5", value_name = "K")]
    pub(super) top_k: NonZeroUsize,
    /// Run the whole sequence for every thought and token, in place of keeping keys and values
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Go on past the end-of-sequence token
    #[arg(long)]
    pub(super) ignore_eos: bool,
    #[command(flatten)]
    pub(super) intervals: IntervalArgs,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    pub(super) batch_tokens: Option<NonZeroUsize>,
    /// Folder to write: metrics.parquet and thoughts.jsonl (a line per prompt)
    #[arg(long, value_name = "RUN")]
    pub(super) out: Option<PathBuf>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl ThinkArgs {
    /// Whether the final norm is applied to the stream of `layer`.
    pub(super) fn norm(&self, layer: usize, n_layers: usize) -> bool {
        self.norm || (layer == n_layers && !self.no_norm)
    }
}
