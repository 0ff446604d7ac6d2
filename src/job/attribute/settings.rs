//! The settings.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Quantity;
use crate::job::{Cluster, IntervalSettings, JobError, ModelSettings, Setting, TextSettings};

/// Which token's logit is taken apart at every position of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum TargetToken {
    /// The token that follows
    #[default]
    Label,
    /// The one that the model finds likeliest
    #[cfg_attr(feature = "cli", value(name = "top-1"))]
    #[serde(rename = "top-1")]
    Top1,
}

/// How sums of components are shown layer by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Accumulated {
    /// With the final norm's divisor of the end: the last is the logit, and differences are what layers brought
    #[default]
    Frozen,
    /// With a divisor of its own at every layer: what would be said if the model stopped there, the logit lens
    Lens,
}

/// Take a logit apart: what every head, MLP, bias and embedding brought to it (direct logit attribution)
///
/// The final norm's divisor is held as it is, so that all parts sum to the logit. Of a prompt the parts at one
/// position; of a text (--data) their means over tokens, with intervals over documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("data", |data| data.required(false))))]
pub struct Attribute {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The prompt; `-` reads it from stdin
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "data", value_name = "STR"))]
    pub prompt: Option<String>,
    /// Many prompts instead: a JSON object per line with `prompt`, and where wanted `answer`, `foil` and `position`.
    /// Numbers are means over prompts with their intervals
    #[cfg_attr(feature = "cli", arg(
        long,
        conflicts_with_all = ["prompt", "data", "answer", "foil", "position", "neurons", "target"],
        value_name = "FILE"
    ))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// The token whose logit is taken apart, often with a space in front; by default what the model says (of a prompt),
    /// or --target (of a text)
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            help = "The token whose logit is taken apart, often with a space in front; by default what the model says of the prompt, and --target of a text",
            value_name = "STR"
        )
    )]
    pub answer: Option<String>,
    /// A token whose logit is taken off it: the difference is what is taken apart
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "less_mean", value_name = "STR"))]
    pub foil: Option<String>,
    /// Take off the mean logit of the vocabulary, which changes no probability
    #[cfg_attr(feature = "cli", arg(long))]
    pub less_mean: bool,
    /// Of a text: the token that follows (the default), or the likeliest one
    #[cfg_attr(feature = "cli", arg(long, value_enum, conflicts_with_all = ["answer", "prompt"], value_name = "TOKEN"))]
    pub target: Option<TargetToken>,
    /// Position of the prompt at which it is said, from 0, or from the end with a minus; by default -1, the last
    #[cfg_attr(
        feature = "cli",
        arg(long, conflicts_with = "data", allow_negative_numbers = true, value_name = "N")
    )]
    pub position: Option<i64>,
    /// MLPs neuron by neuron: shows the N that brought most, to either side
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "data", value_name = "N"))]
    pub neurons: Option<NonZeroUsize>,
    /// Heads that the terminal shows
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 10, value_name = "K"))]
    pub top: usize,
    /// Tokens that each of them raises and lowers most; 0 leaves them out
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 3, value_name = "K"))]
    pub words: usize,
    /// Sums layer by layer that the terminal shows; files and --json have both
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Accumulated::Frozen, value_name = "HOW"))]
    pub accumulated: Accumulated,
    /// What the 95 % intervals are over
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER"))]
    pub cluster: Cluster,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Write a run directory: metrics.parquet, and a row per component in components.parquet
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

impl Default for Attribute {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            prompt: None,
            prompts: None,
            text: TextSettings::default(),
            answer: None,
            foil: None,
            less_mean: false,
            target: None,
            position: None,
            neurons: None,
            top: 10,
            words: 3,
            accumulated: Accumulated::Frozen,
            cluster: Cluster::Document,
            intervals: IntervalSettings::default(),
            out: None,
            batch_tokens: None,
            force: false,
            seed: 0,
        }
    }
}

impl Attribute {
    /// What cannot go together, and what is missing.
    pub(super) fn check(&self) -> Result<(), JobError> {
        let sources = [
            ("prompt", self.prompt.is_some()),
            ("prompts", self.prompts.is_some()),
            ("data", !self.text.data.is_empty()),
        ];
        let given: Vec<&'static str> =
            sources.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let Some(source) = given.first() else {
            let [prompt, prompts, data] = ["prompt", "prompts", "data"].map(Setting);
            return Err(JobError::usage(format!("nothing to read; give {prompt}, {prompts} or {data}")));
        };
        // What goes with some of them only.
        let own = [
            ("position", self.position.is_some(), &["prompt"][..]),
            ("neurons", self.neurons.is_some(), &["prompt"]),
            ("target", self.target.is_some(), &["data"]),
            ("answer", self.answer.is_some(), &["prompt", "data"]),
            ("foil", self.foil.is_some(), &["prompt", "data"]),
        ];
        let pairs = [
            ("foil", self.foil.is_some(), "less_mean", self.less_mean),
            ("answer", self.answer.is_some(), "target", self.target.is_some()),
        ];
        let apart =
            own.iter().find(|(_, given, with)| *given && !with.contains(source)).map(|own| (own.0, *source));
        let apart = apart.or_else(|| given.get(1).map(|second| (*source, *second)));
        let apart = apart.or_else(|| pairs.iter().find(|p| p.1 && p.3).map(|p| (p.0, p.2)));
        match apart.map(|(a, b)| (Setting(a), Setting(b))) {
            Some((a, b)) => Err(JobError::usage(format!("{a} and {b} exclude each other"))),
            None => Ok(()),
        }
    }

    /// What is taken apart.
    pub(super) fn quantity(&self) -> Quantity {
        match (self.foil.is_some(), self.less_mean) {
            (true, _) => Quantity::Difference,
            (false, true) => Quantity::LessMean,
            (false, false) => Quantity::Logit,
        }
    }
}
