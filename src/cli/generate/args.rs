use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use layerscope::{
    intervene::generate::{Sampling, TapSteps},
    intervene::schedule::parse,
    model::Schedule,
};

use super::super::{
    args::{CommonArgs, ModelArgs},
    exit::Failure,
};

/// Continue a prompt, greedily or sampled, also with edits of what the model holds
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// The prompt; `-` reads it from stdin; repeat for several
    #[arg(long, required = true, value_name = "STR")]
    pub(super) text: Vec<String>,
    /// Most tokens to say; by default 64, or what the context has room for
    #[arg(long, value_name = "N")]
    pub(super) max_new_tokens: Option<usize>,
    /// Logits are divided by it and a token is drawn; 0 takes the likeliest
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f64,
    /// Draw from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Run the whole sequence for every token, in place of keeping keys and values
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Go on past the end-of-sequence token
    #[arg(long)]
    pub(super) ignore_eos: bool,
    /// Change what the model holds, as HOOK[#HEADS][@POSITIONS]:CHANGE, such as blocks.3.hook_resid_pre@-1:zero; changes
    /// are zero, mean, resample, scale=F, clip=NORM, add=FILE[:KEY][*F], replace=FILE[:KEY], project-out=FILE[:KEY];
    /// repeat for several
    #[arg(long, value_name = "EDIT")]
    pub(super) edit: Vec<String>,
    /// Which tokens edits reach: those of the prompt, or generated ones too
    #[arg(long, value_enum, default_value_t = EditSteps::Prompt, value_name = "WHICH")]
    edit_steps: EditSteps,
    /// Run the blocks in this order, as `layerscope schedule` takes it
    #[arg(long, value_name = "STEPS")]
    schedule: Option<String>,
    /// Folder to write: metrics.parquet (a row per new token and metric) and generated.jsonl
    #[arg(long, value_name = "RUN")]
    pub(super) out: Option<PathBuf>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Which tokens edits reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EditSteps {
    /// Those of the prompt, once
    Prompt,
    /// Generated ones too, each once
    All,
}

impl Generate {
    pub(super) fn edits_all(&self) -> bool {
        self.edit_steps == EditSteps::All
    }

    pub(super) fn tap_steps(&self) -> TapSteps {
        if self.edits_all() { TapSteps::All } else { TapSteps::Prompt }
    }

    pub(super) fn schedule(&self, n_layers: usize) -> Result<Option<Schedule>, Failure> {
        let parse = |text: &String| parse(text, n_layers, self.common.seed).map_err(Failure::usage);
        self.schedule.as_ref().map(parse).transpose()
    }

    pub(super) fn sampling(&self) -> Result<Sampling, Failure> {
        let drawn = [("--top-k", self.top_k.is_some()), ("--top-p", self.top_p.is_some())];
        if let (Some((name, _)), true) = (drawn.iter().find(|(_, given)| *given), self.temperature == 0.0) {
            return Err(Failure::usage(anyhow!(
                "{name} is for drawn tokens; --temperature 0 takes the likeliest"
            )));
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.common.seed,
        };
        sampling.check().map_err(Failure::usage)?;
        Ok(sampling)
    }
}
