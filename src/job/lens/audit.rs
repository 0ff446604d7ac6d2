//! `lens audit`: what a lens says, what it shows, and whether the model goes by it, side by side with other lenses.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Causal, CausalFound, Concepts, ConceptsFound, Directions, Eval, Evaluated};
use crate::job::{Job, JobError, Layers, LeakageSettings, ModelSettings, PassSettings, TextSettings, Watch};

/// Tokens that are read when no number is asked for.
const TOKENS: u64 = 1 << 14;

/// Measure lenses in every way there is: lens eval, lens concepts and lens causal on one text
///
/// Three runs in one folder: eval (how near the lens is to the model), concepts (words that an answer goes through; with
/// --prompts) and causal (whether the model goes by what the lens goes by). The logit lens is beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Audit {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Folders of lenses of the next token
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// JSON lines with `prompt` and `intermediates`, for concepts
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.jsonl"))]
    pub prompts: Option<PathBuf>,
    /// Folder to write the runs into
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Of causal: directions per lens and layer; by default 40
    #[cfg_attr(feature = "cli", arg(long, value_name = "K"))]
    pub directions: Option<Directions>,
    /// Of causal: leave the first position of every window as it is: it often holds a sink
    #[cfg_attr(feature = "cli", arg(long))]
    pub keep_first: bool,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// How predictions are read and what intervals rest on.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub pass: PassSettings,
    /// What is done about leakage.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub leakage: LeakageSettings,
    /// Start over in folders that hold other runs
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// What the parts found.
#[derive(Debug, Clone, PartialEq)]
pub struct Audited {
    /// How near the lenses are to the model.
    pub eval: Evaluated,
    /// What they show that is not said; none without prompts.
    pub concepts: Option<ConceptsFound>,
    /// Whether the model goes by what they go by.
    pub causal: CausalFound,
}

impl Job for Audit {
    const COMMAND: &'static str = "lens audit";
    type Outcome = Audited;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Audited, JobError> {
        if self.lens.is_empty() {
            return Err(JobError::setting("lens", "there is none; the logit lens is read beside them"));
        }
        let eval = self.eval().run(watch)?;
        let concepts = self.concepts().map(|job| job.run(watch)).transpose()?;
        let causal = self.causal().run(watch)?;
        Ok(Audited { eval, concepts, causal })
    }
}

impl Audit {
    /// The folder of a part.
    pub fn part(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// The logit lens, then the others.
    fn with_logit(&self) -> Vec<PathBuf> {
        std::iter::once(Path::new("logit").to_owned()).chain(self.lens.iter().cloned()).collect()
    }

    /// How near the lenses are to the model.
    pub fn eval(&self) -> Eval {
        Eval {
            model: self.model.clone(),
            text: self.text.up_to(TOKENS),
            lens: self.with_logit(),
            out: self.part("eval"),
            layers: self.layers.clone(),
            readout: self.pass.readout,
            cluster: self.pass.cluster,
            intervals: self.pass.intervals,
            batch_tokens: self.pass.batch_tokens,
            other_unembedding: self.other_unembedding,
            leakage: self.leakage,
            force: self.force,
            seed: self.seed,
            ..Eval::default()
        }
    }

    /// What they show that is not said.
    pub fn concepts(&self) -> Option<Concepts> {
        let prompts = self.prompts.clone()?;
        Some(Concepts {
            model: self.model.clone(),
            prompts,
            lens: self.with_logit(),
            out: self.part("concepts"),
            layers: self.layers.clone(),
            intervals: self.pass.intervals,
            other_unembedding: self.other_unembedding,
            force: self.force,
            seed: self.seed,
        })
    }

    /// Whether the model goes by what they go by.
    pub fn causal(&self) -> Causal {
        Causal {
            model: self.model.clone(),
            text: self.text.up_to(TOKENS),
            lens: self.lens.clone(),
            out: self.part("causal"),
            layers: self.layers.clone(),
            directions: self.directions,
            keep_first: self.keep_first,
            other_unembedding: self.other_unembedding,
            pass: self.pass.clone(),
            leakage: self.leakage,
            force: self.force,
            seed: self.seed,
            ..Causal::default()
        }
    }
}
