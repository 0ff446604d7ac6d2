//! What `generate` is to do, checked before weights are read, and how it is done.

use std::ops::ControlFlow;

use super::{
    super::{check_stopped, texts::prompt_texts},
    Continuation, Generate, Listener,
    listener::Texts,
};
use crate::{
    intervene::{
        edits::{EditSpec, Edits},
        generate::{
            GenerateError, Generated, GeneratedToken, Measured, Prompt, Sampling, Settings, TapSteps,
            continuation, generate, measure, same_length, stop_ids,
        },
        schedule::parse,
    },
    job::{JobError, Session, SetTo, Setting, Watch},
    model::Model,
    sources::text::{Tokenizer, excerpt},
};

/// New tokens where nobody says how many.
const NEW: usize = 64;

/// Everything checked.
pub(super) struct Plan {
    /// The prompts as they were read.
    pub(super) texts: Vec<String>,
    /// And as tokens.
    pub(super) prompts: Vec<Prompt>,
    /// What the texts of chats depend on.
    pub(super) chat: Option<serde_json::Value>,
    pub(super) settings: Settings,
    pub(super) specs: Vec<EditSpec>,
    pub(super) edits: Edits,
}

impl Plan {
    pub(super) fn new(
        job: &Generate,
        specs: Vec<EditSpec>,
        session: &Session,
        tokenizer: &Tokenizer,
    ) -> Result<Self, JobError> {
        if job.text.is_empty() && job.chat.chat.is_none() {
            return Err(JobError::setting("text", "no prompt is given"));
        }
        let (mut texts, chats) = (prompt_texts(&job.text)?, job.chat.prompts(session)?);
        let plain = texts.len();
        texts.extend(chats.texts);
        let one = |(index, text): (usize, &String)| prompt(index, text, index >= plain, tokenizer);
        let prompts = texts.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        let new = new_tokens(job.max_new_tokens, &texts, &prompts, session.spec.n_ctx)?;
        let settings = job.settings(new, session, tokenizer)?;
        let placed = specs.iter().map(|spec| spec.resolve(&session.spec));
        let edits = Edits::new(placed.collect::<Result<_, _>>().map_err(JobError::usage)?, job.seed);
        let plan = Self { texts, prompts, chat: chats.identity, settings, specs, edits };
        plan.check_edits()?;
        Ok(plan)
    }

    /// Whether the edits can be made in these prompts.
    fn check_edits(&self) -> Result<(), JobError> {
        let new = self.settings.max_new_tokens;
        for (spec, prompt) in self.specs.iter().flat_map(|spec| self.prompts.iter().map(move |p| (spec, p))) {
            let n = prompt.ids.len();
            let all = if self.settings.tap_steps == TapSteps::All { n + new - 1 } else { n };
            spec.check_positions(n, all).map_err(JobError::usage)?;
        }
        let longest = longest(&self.prompts);
        let mixing = self.specs.iter().find(|spec| spec.mixes_rows());
        if let (Some(spec), Some(other)) = (mixing, self.prompts.iter().find(|p| p.ids.len() != longest)) {
            return Err(JobError::usage(format!(
                "{}: needs prompts of one length; {} has {} tokens, another {longest}",
                SetTo("edit", spec.text()),
                SetTo("text", other.index + 1),
                other.ids.len()
            )));
        }
        if self.edits.resamples() && self.prompts.len() < 2 {
            return Err(JobError::usage(format!(
                "{} takes values of other prompts; give {} twice",
                SetTo("edit", "…:resample"),
                Setting("text")
            )));
        }
        Ok(())
    }

    /// Whether the model will not run as it is.
    pub(super) fn changes_the_model(&self) -> bool {
        !self.edits.is_empty() || self.settings.schedule.is_some()
    }

    /// Continues every prompt, those of one length together, and lets the listener hear it.
    pub(super) fn generate(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        listener: &mut dyn Listener,
        watch: &dyn Watch,
    ) -> Result<Vec<Generated>, JobError> {
        let mut all: Vec<Option<Generated>> = self.prompts.iter().map(|_| None).collect();
        let mut texts = Texts::new(tokenizer, &self.prompts, &self.settings.stop);
        let ids: Vec<Vec<u32>> = self.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        for group in same_length(&ids) {
            let prompts: Vec<Prompt> = group.iter().map(|i| self.prompts[*i].clone()).collect();
            let mut failed = None;
            let mut hear = |token: GeneratedToken| {
                failed = texts.tell(token, listener).err();
                let go_on = failed.is_none() && !watch.stopped();
                if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let generated = generate(model, &prompts, &self.settings, &mut self.edits.tap(), &mut hear)?;
            if let Some(failed) = failed {
                return Err(failed);
            }
            for (i, generated) in group.into_iter().zip(generated) {
                all[i] = Some(generated);
            }
            check_stopped(watch)?;
        }
        listener.end(&texts.all()?)?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Numbers of every prompt by step, beside the model left alone.
    pub(super) fn measure(
        &self,
        model: &Model,
        generated: &[Generated],
    ) -> Result<Vec<Measured>, GenerateError> {
        self.prompts.iter().zip(generated).map(|(prompt, new)| measure(model, prompt, new)).collect()
    }

    /// The prompts and what became of them.
    pub(super) fn continuations(
        &self,
        generated: &[Generated],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Continuation>, JobError> {
        let one = |((prompt, text), new): ((&Prompt, &String), &Generated)| {
            Ok(Continuation {
                prompt: prompt.index,
                text: text.clone(),
                prompt_ids: prompt.ids.clone(),
                token_ids: new.tokens.clone(),
                generated: continuation(tokenizer, &prompt.ids, &new.tokens)?,
                ended: new.ended,
            })
        };
        self.prompts.iter().zip(&self.texts).zip(generated).map(one).collect()
    }
}

impl Generate {
    fn settings(&self, new: usize, session: &Session, tokenizer: &Tokenizer) -> Result<Settings, JobError> {
        let sampling = self.sampling()?;
        let stop = if self.ignore_eos {
            Vec::new()
        } else {
            stop_ids(session.path(), tokenizer).map_err(JobError::usage)?
        };
        let schedule = |text: &String| parse(text, session.spec.n_layers, self.seed).map_err(JobError::usage);
        Ok(Settings {
            stop,
            sampling,
            cache: !self.no_cache,
            tap_steps: self.edit_steps,
            vocab: Some(session.vocab(tokenizer)),
            schedule: self.schedule.as_ref().map(schedule).transpose()?,
            keep_logits: true,
            ..Settings::greedy(new)
        })
    }

    fn sampling(&self) -> Result<Sampling, JobError> {
        let drawn = [("top_k", self.top_k.is_some()), ("top_p", self.top_p.is_some())];
        if let (Some((name, _)), true) = (drawn.iter().find(|(_, given)| *given), self.temperature == 0.0) {
            return Err(JobError::usage(format!(
                "{} is for drawn tokens; {} takes the likeliest",
                Setting(name),
                SetTo("temperature", 0)
            )));
        }
        let sampling =
            Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed };
        sampling.check().map_err(JobError::usage)?;
        Ok(sampling)
    }
}

fn prompt(index: usize, text: &str, chat: bool, tokenizer: &Tokenizer) -> Result<Prompt, JobError> {
    // An empty text is what BOS alone says; without BOS it is no token.
    let ids = if chat { tokenizer.encode_chat(text)? } else { tokenizer.encode(text)? };
    if ids.is_empty() {
        return Err(JobError::usage(format!("{} gives no tokens", SetTo("text", excerpt(text)))));
    }
    Ok(Prompt { index, ids })
}

fn longest(prompts: &[Prompt]) -> usize {
    prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0)
}

/// How many tokens are said at most: as many as asked for, or what there is room for.
fn new_tokens(
    asked: Option<usize>,
    texts: &[String],
    prompts: &[Prompt],
    context: usize,
) -> Result<usize, JobError> {
    let longest = longest(prompts);
    let most = (context + 1).saturating_sub(longest); // the last token is said, not read
    let new = asked.unwrap_or(NEW.min(most));
    if new == 0 || new > most {
        let text = prompts.iter().find(|prompt| prompt.ids.len() == longest).map(|prompt| prompt.index);
        let text = excerpt(text.map_or("", |index| &texts[index]));
        return Err(JobError::usage(format!(
            "{} gives {longest} tokens, {new} new ones do not fit the model's context of {context}",
            SetTo("text", text)
        )));
    }
    Ok(new)
}
