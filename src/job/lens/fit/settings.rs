//! The settings of `lens fit`.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
use super::super::short_site;
use super::{JacobianSettings, PromptSettings};
use crate::{
    job::{Layers, ModelSettings, PrecisionSetting, TextSettings},
    lens::artifact::LensKind,
    lenses::fit::{FirstOrder, Loss, Optimizer},
    states::Masking,
};

/// Fit a lens and write it to a folder
///
/// Streams: memory does not grow with the text beyond its token ids. Killed and repeated, it goes on from the last
/// checkpoint and ends with the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("data", |data| data.required(false).required_unless_present("activations"))))]
pub struct Fit {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text, which [`Fit::activations`] can stand for.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// In place of [`TextSettings::data`]: an export of `resid_pre` (or the site) and of the last layer's `resid_pre`
    /// at all positions.
    #[cfg_attr(feature = "cli", arg(
        long,
        help = "In place of --data: an export of resid_pre (or the site) and of the last layer's resid_pre at all positions",
        conflicts_with_all = ["data", "text_column", "stdin_format", "seq_len", "pack", "bos"],
        value_name = "EXPORT"
    ))]
    pub activations: Option<PathBuf>,
    /// Kind of lens
    #[cfg_attr(feature = "cli", arg(long, value_enum))]
    pub kind: LensKind,
    /// Folder to write; its name is the lens's
    #[cfg_attr(feature = "cli", arg(long, value_name = "LENSDIR"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Read these tokens of an encoder, each behind the mask token: all of them in turn, or 15 % at random (the
    /// default)
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "all|random"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Masking>,
    /// Where the lens reads: `resid_pre`, `resid_mid`, `resid_post`, `attn_out` or `mlp_out`.
    #[cfg_attr(feature = "cli", arg(
        long,
        help = "Where the lens reads: resid_pre, resid_mid, resid_post, attn_out or mlp_out",
        default_value = "resid_pre",
        value_parser = short_site,
        value_name = "SITE"
    ))]
    pub site: String,
    /// What the lens shall say: the model's prediction (kl) or the text's token (ce)
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = LossSetting::Kl, value_name = "LOSS"))]
    pub loss: LossSetting,
    /// What moves the translators: kfac, or the reference's sgd, adam or muon (tuned lenses only)
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = OptimizerSetting::Kfac, value_name = "OPTIMIZER"))]
    pub optimizer: OptimizerSetting,
    /// Step size at the start; by default the optimiser's own
    #[cfg_attr(feature = "cli", arg(long, value_name = "X"))]
    pub rate: Option<f64>,
    /// Trust region of kfac, nats
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.2, value_name = "NATS"))]
    pub trust: f64,
    /// Tokens per step; by default so that there are about 62 steps
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub step_tokens: Option<NonZeroUsize>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Validations (there are eight) without gain after which a layer is left alone
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 3, value_name = "N"))]
    pub patience: usize,
    /// What a tuned lens begins from: the closed form where that is better than the logit lens, or nothing
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Init::Ridge, value_name = "INIT"))]
    pub init: Init,
    /// Ridge of closed forms, relative to the mean variance
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1e-3, value_name = "X"))]
    pub ridge: f64,
    /// Rung of a shared lens: bias, affine, layer-bias, gain, standardised or rank-R; repeat for several, or `all`
    #[cfg_attr(feature = "cli", arg(long, default_value = "affine", value_name = "RUNG"))]
    pub rung: Vec<String>,
    /// Layer that a linear lens maps to, or a Jacobian is of; by default the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYER"))]
    pub target: Option<usize>,
    /// How many tokens ahead a future lens reads
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 4, value_name = "K"))]
    pub horizons: usize,
    /// Refine a future lens's closed form by KL
    #[cfg_attr(feature = "cli", arg(long))]
    pub refine: bool,
    /// Precision of the readout
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = PrecisionSetting::Auto, value_name = "PRECISION"))]
    pub readout: PrecisionSetting,
    /// Seconds between checkpoints
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 60, value_name = "S"))]
    pub checkpoint_seconds: u64,
    /// Start over in a folder that holds another lens
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
    /// What only learned prompts have: at the end, since the heading of its help holds for all that follow.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub prompt: PromptSettings,
    /// What only Jacobian lenses have.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub jacobian: JacobianSettings,
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            activations: None,
            kind: LensKind::Tuned,
            out: PathBuf::new(),
            layers: None,
            mask: None,
            site: "resid_pre".to_owned(),
            loss: LossSetting::Kl,
            optimizer: OptimizerSetting::Kfac,
            rate: None,
            trust: 0.2,
            step_tokens: None,
            batch_tokens: None,
            patience: 3,
            init: Init::Ridge,
            ridge: 1e-3,
            rung: vec!["affine".to_owned()],
            target: None,
            horizons: 4,
            refine: false,
            readout: PrecisionSetting::Auto,
            checkpoint_seconds: 60,
            force: false,
            seed: 0,
            prompt: PromptSettings::default(),
            jacobian: JacobianSettings::default(),
        }
    }
}

/// See [`Loss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[allow(missing_docs)] // docs would become part of --help, where the option says it
pub enum LossSetting {
    Kl,
    Ce,
}

impl From<LossSetting> for Loss {
    fn from(setting: LossSetting) -> Self {
        match setting {
            LossSetting::Kl => Self::Kl,
            LossSetting::Ce => Self::Ce,
        }
    }
}

/// See [`Optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[allow(missing_docs)] // as above
pub enum OptimizerSetting {
    Kfac,
    Sgd,
    Adam,
    Muon,
}

impl From<OptimizerSetting> for Optimizer {
    fn from(setting: OptimizerSetting) -> Self {
        match setting {
            OptimizerSetting::Kfac => Self::Kfac,
            OptimizerSetting::Sgd => FirstOrder::Sgd.into(),
            OptimizerSetting::Adam => FirstOrder::Adam.into(),
            OptimizerSetting::Muon => FirstOrder::Muon.into(),
        }
    }
}

/// What a tuned lens begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[allow(missing_docs)] // as above
pub enum Init {
    Ridge,
    Zero,
}
