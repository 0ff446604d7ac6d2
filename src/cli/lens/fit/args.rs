//! The options of `lens fit`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};
use layerscope::lenses::fit::{Loss, Optimizer};

use super::super::{
    super::args::{CommonArgs, Layers, ModelArgs, TextArgs},
    readout::ReadoutArg,
    site::short,
};

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
    /// Closed-form maps straight to the logits of later tokens
    FutureVocab,
    /// Learned prompts that states are put into, for several tokens ahead
    FuturePrompt,
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
    pub(super) text: OptionalText,
    #[arg(
        long,
        help = "In place of --data: an export of resid_pre (or the site) and of the last layer's resid_pre at all positions",
        conflicts_with_all = ["data", "text_column", "stdin_format", "seq_len", "pack", "bos"],
        value_name = "EXPORT"
    )]
    pub(super) activations: Option<PathBuf>,
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
        value_parser = short,
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
    /// Precision of the readout
    #[arg(long, value_enum, default_value_t = ReadoutArg::Auto, value_name = "PRECISION")]
    pub(super) readout: ReadoutArg,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub(super) checkpoint_seconds: u64,
    /// Start over in a folder that holds another lens
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Last, since its heading holds for all that follow.
    #[command(flatten)]
    pub(super) prompt: PromptArgs,
}

/// What only learned prompts have.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Options of --kind future-prompt")]
pub(super) struct PromptArgs {
    /// Tokens of a prompt; the state goes into the last one
    #[arg(long, default_value_t = 10, value_name = "M")]
    pub(super) prompt_tokens: usize,
    /// Places of the text that prompts are trained on, once per epoch
    #[arg(long, default_value_t = 4000, value_name = "N")]
    pub(super) contexts: usize,
    /// Times through the contexts
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) epochs: usize,
    /// Contexts of a step
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(super) batch: usize,
    /// `AdamW`'s weight decay
    #[arg(long, default_value_t = 1e-5, value_name = "X")]
    pub(super) decay: f64,
    /// Standard deviation of a prompt's numbers at the beginning
    #[arg(long, default_value_t = 0.02, value_name = "X")]
    pub(super) init_std: f64,
}

/// Text, which `--activations` can stand for.
#[derive(Debug)]
pub(super) struct OptionalText(pub(super) TextArgs);

impl Args for OptionalText {
    fn augment_args(command: Command) -> Command {
        TextArgs::augment_args(command)
            .mut_arg("data", |data| data.required(false).required_unless_present("activations"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OptionalText {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        TextArgs::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
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

impl FitArgs {
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
}
