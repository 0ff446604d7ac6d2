//! What `config.json` says.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::results::run::RowKind;

use super::wire;

/// The kinds of lens that have a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum LensKind {
    /// One affine translator per layer
    Tuned,
    /// One translator for all layers, and the rungs between that and the tuned lens
    Shared,
    /// Closed-form regression of a later layer
    Linear,
    /// Translators per layer for several tokens ahead, in closed form or refined by KL
    #[cfg_attr(
        feature = "cli",
        value(help = "Closed-form (and, with --refine, KL) translators for several tokens ahead")
    )]
    Future,
    /// Closed-form maps straight to the logits of later tokens
    FutureVocab,
    /// Learned prompts that states are put into, for several tokens ahead
    FuturePrompt,
    /// What the last layer changes by when a state does, on average: the mean Jacobian
    Jacobian,
}

impl fmt::Display for LensKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tuned => "tuned",
            Self::Shared => "shared",
            Self::Linear => "linear",
            Self::Future => "future",
            Self::FutureVocab => "future-vocab",
            Self::FuturePrompt => "future-prompt",
            Self::Jacobian => "jacobian",
        })
    }
}

impl From<LensKind> for RowKind {
    fn from(kind: LensKind) -> Self {
        match kind {
            LensKind::Tuned => Self::Tuned,
            LensKind::Shared => Self::Shared,
            LensKind::Linear => Self::Linear,
            LensKind::Future => Self::Future,
            LensKind::FutureVocab => Self::FutureVocab,
            LensKind::FuturePrompt => Self::FuturePrompt,
            LensKind::Jacobian => Self::Jacobian,
        }
    }
}

/// The model a lens was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its hub id or folder.
    pub name: String,
    /// SHA-256 as in a run's manifest, where known.
    pub sha256: Option<String>,
}

/// What a lens is and which model it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "wire::Config", into = "wire::Config")]
pub struct LensConfig {
    /// Which kind of lens.
    pub kind: LensKind,
    /// Where in a block it reads: `resid_pre`, `attn_out` …
    pub site: String,
    /// The model it was made for.
    pub model: ModelRef,
    /// Width of that model's residual stream.
    pub d_model: usize,
    /// Number of that model's blocks.
    pub n_layers: usize,
    /// [`super::unembed_sha256`] of that model; none in the package's folders.
    pub unembed_sha256: Option<String>,
    /// SHA-256 of that model's tokenizer file.
    pub tokenizer_sha256: Option<String>,
    /// The layers it has translators for, ascending.
    pub layers: Vec<usize>,
    /// The horizons it predicts; `[1]` for all but future lenses.
    pub horizons: Vec<usize>,
    /// How it was fitted, in whatever form its kind chooses.
    pub details: Value,
}

impl LensConfig {
    /// Whether the tuned-lens package can hold this lens: it knows one translator for every `resid_pre`, no fewer.
    pub fn fits_package(&self) -> bool {
        self.kind == LensKind::Tuned
            && self.site == "resid_pre"
            && self.layers.iter().copied().eq(0..self.n_layers)
    }

    /// Checks what no later step would notice.
    pub(super) fn validate(&self) -> Result<(), String> {
        let ascending = |list: &[usize]| list.is_sorted_by(|a, b| a < b);
        if self.d_model == 0 || self.n_layers == 0 {
            return Err(format!("d_model {} and {} layers", self.d_model, self.n_layers));
        }
        if self.layers.is_empty() || !ascending(&self.layers) {
            return Err(format!("layers must ascend, got {:?}", self.layers));
        }
        if let Some(layer) = self.layers.last().filter(|layer| **layer > self.n_layers) {
            return Err(format!("layer {layer} of a model with {} layers", self.n_layers));
        }
        if self.horizons.first().is_none_or(|first| *first == 0) || !ascending(&self.horizons) {
            return Err(format!("horizons must ascend from 1 or more, got {:?}", self.horizons));
        }
        Ok(())
    }
}
