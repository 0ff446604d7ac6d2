//! `generate`: a prompt goes on, also under edits.

mod json;
mod listener;
mod plan;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::listener::{Listener, NewToken};
use self::plan::Plan;
use super::texts::{GENERATED, write_texts};
use crate::{
    intervene::{
        edits::{EditError, EditSpec},
        generate::{Measured, TapSteps, metric_rows},
    },
    job::{ChatSettings, Job, JobError, ModelSettings, Session, SetTo, Watch, bos_line, claimed, hashes},
    results::{
        run::{Claim, MetricRow, RunDir},
        statistics::Intervals,
    },
    sources::text::Tokenizer,
};

/// Continue a prompt, greedily or sampled, also with edits of what the model holds
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Generate {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The prompt; `-` reads it from stdin; repeat for several
    #[cfg_attr(feature = "cli", arg(long, required_unless_present = "chat", value_name = "STR"))]
    pub text: Vec<String>,
    /// Chats to answer.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub chat: ChatSettings,
    /// Most tokens to say; by default 64, or what the context has room for
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_new_tokens: Option<usize>,
    /// Logits are divided by it and a token is drawn; 0 takes the likeliest
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.0, value_name = "T"))]
    pub temperature: f64,
    /// Draw from the K likeliest tokens only
    #[cfg_attr(feature = "cli", arg(long, value_name = "K"))]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together reach this probability
    #[cfg_attr(feature = "cli", arg(long, value_name = "P"))]
    pub top_p: Option<f64>,
    /// Run the whole sequence for every token, in place of keeping keys and values
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_cache: bool,
    /// Go on past the end-of-sequence token
    #[cfg_attr(feature = "cli", arg(long))]
    pub ignore_eos: bool,
    /// Changes of what the model holds, as [`EditSpec`](crate::intervene::edits::EditSpec) reads them.
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "EDIT",
            help = "Change what the model holds, as HOOK[#HEADS][@POSITIONS]:CHANGE, such as blocks.3.hook_resid_pre@-1:zero; \
                    changes are zero, mean, resample, scale=F, clip=NORM, add=FILE[:KEY][*F], replace=FILE[:KEY], \
                    project-out=FILE[:KEY]; repeat for several"
        )
    )]
    pub edit: Vec<String>,
    /// Which tokens edits reach: those of the prompt, or generated ones too
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = TapSteps::Prompt, value_name = "WHICH"))]
    pub edit_steps: TapSteps,
    /// Run the blocks in this order, as `layerscope schedule` takes it
    #[cfg_attr(feature = "cli", arg(long, value_name = "STEPS"))]
    pub schedule: Option<String>,
    /// Folder to write: metrics.parquet (a row per new token and metric) and generated.jsonl
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// A prompt and what became of it, a line of `generated.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Continuation {
    /// Its number, from 0.
    pub prompt: usize,
    /// The prompt.
    pub text: String,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
    /// The new tokens, an end token included.
    pub token_ids: Vec<u32>,
    /// The same as text.
    pub generated: String,
    /// Whether an end token was said.
    pub ended: bool,
}

/// What the prompts became.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// What the model is called.
    pub model: String,
    /// Whether edits or a schedule changed the model.
    pub changed: bool,
    /// The order of the blocks, where one was asked for.
    pub schedule: Option<String>,
    /// The prompts, in their order.
    pub prompts: Vec<Continuation>,
    /// Numbers of every prompt by step; none where [nobody wants them](Listener::wants_numbers).
    pub measured: Option<Vec<Measured>>,
    /// Their means over prompts, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for Generate {
    const COMMAND: &'static str = "generate";
    type Outcome = Generation;

    crate::job::writes_out!();

    fn answer(&self, found: Generation) -> Result<Value, JobError> {
        Ok(self.json(&found, found.measured.as_deref().unwrap_or_default()))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Generation, JobError> {
        self.run_with(watch, &mut ())
    }
}

impl Generate {
    /// As [`Job::run`]; `listener` hears every token as it is chosen.
    ///
    /// # Errors
    /// As [`Job::run`], and those of the listener.
    pub fn run_with(&self, watch: &dyn Watch, listener: &mut dyn Listener) -> Result<Generation, JobError> {
        let specs = self.edit.iter().map(|text| text.parse());
        let specs = specs.collect::<Result<Vec<EditSpec>, EditError>>().map_err(JobError::usage)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let tokenizer = session.tokenizer(watch)?;
        let plan = Plan::new(self, specs, &session, &tokenizer)?;
        session.announce(watch);
        watch.note(&format!("BOS: {}", bos_line(tokenizer.bos())));
        if !plan.edits.is_empty() && self.edit_steps == TapSteps::Prompt {
            watch.note(&format!(
                "edits reach the prompt's tokens only; {} makes them at every generated one too",
                SetTo("edit_steps", "all")
            ));
        }
        let claim = self.claim(&plan, &session, &tokenizer, watch)?;
        let model = session.load(watch)?;
        let generated = plan.generate(model, &tokenizer, listener, watch)?;
        let changed = plan.changes_the_model();
        let mut found = Generation {
            model: session.name(),
            changed,
            schedule: plan.settings.schedule.as_ref().map(ToString::to_string),
            prompts: plan.continuations(&generated, &tokenizer)?,
            measured: None,
            rows: Vec::new(),
        };
        if changed || claim.is_some() || listener.wants_numbers() {
            let measured = plan.measure(model, &generated)?;
            found.rows = metric_rows(&measured, changed, session.spec.n_layers, Intervals::default())?;
            found.measured = Some(measured);
        }
        if let (Some(claim), Some(out)) = (claim, &self.out) {
            let lines = found.prompts.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            write_texts(claim, (out, GENERATED), &found.rows, &lines)?;
        }
        Ok(found)
    }

    fn claim(
        &self,
        plan: &Plan,
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.chat.clone_from(&plan.chat);
        manifest.seed = self.seed;
        let mut files: Vec<PathBuf> =
            plan.specs.iter().filter_map(EditSpec::file).map(Path::to_owned).collect();
        files.dedup();
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        manifest.data = hashes(&files, &names)?;
        manifest.config = self.config(plan, session);
        Ok(Some(claimed(RunDir::claim(out, manifest, self.force)?, watch)))
    }

    fn config(&self, plan: &Plan, session: &Session) -> Value {
        let (settings, sampling) = (&plan.settings, plan.settings.sampling);
        json!({
            "model_name": session.name(),
            "n_layers": session.spec.n_layers,
            "text": plan.texts,
            "max_new_tokens": settings.max_new_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "stop": settings.stop,
            "edits": plan.specs.iter().map(EditSpec::text).collect::<Vec<_>>(),
            "edit_steps": self.edit_steps,
            "schedule": settings.schedule.as_ref().map(ToString::to_string),
        })
    }
}
