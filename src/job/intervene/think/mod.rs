//! `think`: hidden states fed back as input embeddings, what they look like, and what the answer loses without them.

mod found;
mod json;
mod plan;
mod prompts;
mod settings;
mod space;
mod work;

use serde_json::{Value, json};

pub use self::{
    found::{EmbeddingLengths, Thoughts},
    prompts::ThoughtPrompt,
    settings::{Rescaling, Think},
    space::{SpaceMeasured, ThinkSpace},
};
use self::{plan::Plan, work::Work};
use super::texts::{THOUGHTS, write_texts};
use crate::{
    intervene::think::Replacement,
    job::{
        Job, JobError, Session, SetTo, Setting, Watch, bos_line, claimed,
        lens::{LensRequest, check_shapes, read, records, site_of},
        shown,
    },
    results::run::{Claim, RunDir},
    sources::text::Tokenizer,
};

/// What was asked, thought and found.
pub struct Thinking {
    /// What the model is called.
    pub model: String,
    /// Of whose tokens the thoughts tell.
    pub tokenizer: Tokenizer,
    /// The settings as the manifest has them.
    pub settings: Value,
    /// Thoughts per prompt.
    pub steps: usize,
    /// What thoughts were replaced by.
    pub replacements: Vec<Replacement>,
    /// The prompts.
    pub prompts: Vec<ThoughtPrompt>,
    /// What became of them.
    pub thoughts: Thoughts,
    /// The same as in `thoughts.jsonl`.
    pub lines: Vec<Value>,
}

impl Job for Think {
    const COMMAND: &'static str = "think";
    type Outcome = Thinking;

    crate::job::writes_out!();

    fn answer(&self, thinking: Thinking) -> Result<Value, JobError> {
        Ok(self.json(thinking))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Thinking, JobError> {
        self.check()?;
        let requests = read(&self.lens)?;
        if site_of(&requests) != "resid_pre" {
            let site = site_of(&requests);
            return Err(JobError::usage(format!("{} reads {site}, not resid_pre", Setting("lens"))));
        }
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        check_shapes(&requests, &session.spec)?;
        let tokenizer = session.tokenizer(watch)?;
        let plan = Plan::new(self, &session, &tokenizer, watch)?;
        check_layer(&requests, plan.feedback.layer, session.spec.n_layers)?;
        session.announce(watch);
        watch.note(&format!("BOS: {}", bos_line(tokenizer.bos())));
        watch.note(&plan.describe(self.rescale, session.spec.n_layers));
        let settings = self.config(&plan, &session);
        let claim = self.claim(&plan, (&requests, &settings), (&session, &tokenizer), watch)?;
        let thoughts = Work::of(self, &plan, &requests, &session, watch)?;
        watch.note(&thoughts.embeddings.to_string());
        let lines = thoughts.lines(&plan.prompts, &tokenizer)?;
        if let (Some(claim), Some(out)) = (claim, &self.out) {
            write_texts(claim, (out, THOUGHTS), &thoughts.rows, &lines)?;
        }
        Ok(Thinking {
            model: session.name(),
            tokenizer,
            settings,
            steps: plan.feedback.steps,
            replacements: plan.replacements,
            prompts: plan.prompts,
            thoughts,
            lines,
        })
    }
}

impl Think {
    fn claim(
        &self,
        plan: &Plan,
        (requests, settings): (&[LensRequest], &Value),
        (session, tokenizer): (&Session, &Tokenizer),
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.data.clone_from(&plan.data);
        manifest.lenses = records(requests)?;
        manifest.config = settings.clone();
        Ok(Some(claimed(RunDir::claim(out, manifest, self.force)?, watch)))
    }

    fn config(&self, plan: &Plan, session: &Session) -> Value {
        json!({
            "model_name": session.name(),
            "n_layers": session.spec.n_layers,
            "text": self.text,
            "text_column": self.text_column,
            "prompt_tokens": self.prompt_tokens,
            "prompts": plan.prompts.len(),
            "steps": plan.feedback.steps,
            "layer": plan.feedback.layer,
            "norm": plan.feedback.norm,
            "rescale": self.rescale,
            "decay": plan.feedback.decay,
            "max_new_tokens": plan.settings.max_new_tokens,
            "stop": plan.settings.stop,
            "cache": plan.settings.cache,
            "replace": plan.replacements.iter().map(|r| r.name()).collect::<Vec<_>>(),
            "lenses": self.lens.iter().map(shown).collect::<Vec<_>>(),
            "top_k": self.top_k,
            "intervals": self.intervals.config(),
        })
    }
}

/// Refuses a lens that cannot read what is fed back.
fn check_layer(requests: &[LensRequest], layer: usize, last: usize) -> Result<(), JobError> {
    let reads = |lens: &&LensRequest| (layer == last && lens.horizons() == 1) || lens.reads(layer);
    match requests.iter().find(|lens| !reads(lens)) {
        None => Ok(()),
        Some(lens) => {
            Err(JobError::usage(format!("{}: it has nothing for layer {layer}", SetTo("lens", lens.name()))))
        }
    }
}
