//! What `generate` is to do, checked before weights are read, and what it answers.

use std::path::Path;

use anyhow::anyhow;
use layerscope::{
    intervene::edits::{EditSpec, Edits},
    intervene::generate::{Generated, Measured, Prompt, Settings, stop_ids},
    sources::text::{Tokenizer, excerpt},
};
use serde_json::{Value, json};

use super::{Generate, say::continuation};
use crate::cli::{
    exit::Failure,
    output::shown,
    session::{Session, read_stdin},
};

/// New tokens where nobody says how many.
const NEW: usize = 64;

/// Everything checked.
pub(super) struct Job {
    pub(super) texts: Vec<String>,
    pub(super) prompts: Vec<Prompt>,
    pub(super) settings: Settings,
    pub(super) specs: Vec<EditSpec>,
    pub(super) edits: Edits,
}

impl Generate {
    pub(super) fn job(
        &self,
        specs: Vec<EditSpec>,
        session: &Session,
        tokenizer: &Tokenizer,
    ) -> Result<Job, Failure> {
        let usage = |message: String| Failure::usage(anyhow!(message));
        let (texts, prompts) = self.prompts(tokenizer)?;
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
        let context = session.spec.n_ctx;
        let most = (context + 1).saturating_sub(longest); // the last token is said, not read
        let new = self.max_new_tokens.unwrap_or(NEW.min(most));
        if new == 0 || new > most {
            let text = prompts.iter().find(|prompt| prompt.ids.len() == longest).map(|prompt| prompt.index);
            let text = excerpt(text.map_or("", |index| &texts[index]));
            return Err(usage(format!(
                "--text {text} gives {longest} tokens, {new} new ones do not fit the model's context of {context}"
            )));
        }
        let settings = self.settings(new, session, tokenizer)?;
        let placed = specs.iter().map(|spec| spec.resolve(&session.spec));
        let edits = Edits::new(placed.collect::<Result<_, _>>().map_err(Failure::usage)?, self.common.seed);
        for (spec, prompt) in specs.iter().flat_map(|spec| prompts.iter().map(move |prompt| (spec, prompt))) {
            let n = prompt.ids.len();
            let all = if self.edits_all() { n + new - 1 } else { n };
            spec.check_positions(n, all).map_err(Failure::usage)?;
        }
        let mixing = specs.iter().find(|spec| spec.mixes_rows());
        if let (Some(spec), Some(other)) = (mixing, prompts.iter().find(|p| p.ids.len() != longest)) {
            return Err(usage(format!(
                "--edit {}: needs prompts of one length; --text {} has {} tokens, another {longest}",
                spec.text(),
                other.index + 1,
                other.ids.len()
            )));
        }
        if edits.resamples() && prompts.len() < 2 {
            return Err(usage(
                "--edit …:resample takes values of other prompts; give --text twice".to_owned(),
            ));
        }
        Ok(Job { texts, prompts, settings, specs, edits })
    }

    fn settings(&self, new: usize, session: &Session, tokenizer: &Tokenizer) -> Result<Settings, Failure> {
        let sampling = self.sampling()?;
        let stop = if self.ignore_eos {
            Vec::new()
        } else {
            stop_ids(session.path(), tokenizer).map_err(Failure::usage)?
        };
        Ok(Settings {
            stop,
            sampling,
            cache: !self.no_cache,
            tap_steps: self.tap_steps(),
            vocab: Some((tokenizer.max_id() as usize + 1).min(session.spec.vocab)),
            schedule: self.schedule(session.spec.n_layers)?,
            keep_logits: true,
            ..Settings::greedy(new)
        })
    }

    /// Texts as they were read, and their tokens.
    fn prompts(&self, tokenizer: &Tokenizer) -> Result<(Vec<String>, Vec<Prompt>), Failure> {
        if self.text.iter().filter(|text| *text == "-").count() > 1 {
            return Err(Failure::usage(anyhow!("--text: stdin (`-`) can be read once")));
        }
        let (mut texts, mut prompts) = (Vec::new(), Vec::new());
        for (index, text) in self.text.iter().enumerate() {
            let text = if text == "-" { read_stdin().map_err(Failure::usage)? } else { text.clone() };
            // An empty text is what BOS alone says; without BOS it is no token.
            let ids = tokenizer.encode(&text)?;
            if ids.is_empty() {
                return Err(Failure::usage(anyhow!("--text {} gives no tokens", excerpt(&text))));
            }
            texts.push(text);
            prompts.push(Prompt { index, ids });
        }
        Ok((texts, prompts))
    }
}

impl Job {
    /// What is told of every prompt.
    pub(super) fn lines(&self, said: &[Generated], tokenizer: &Tokenizer) -> Result<Vec<Value>, Failure> {
        let one = |((prompt, text), said): ((&Prompt, &String), &Generated)| {
            Ok(json!({
                "prompt": prompt.index,
                "text": text,
                "prompt_ids": prompt.ids,
                "token_ids": said.tokens,
                "generated": continuation(tokenizer, &prompt.ids, &said.tokens)?,
                "ended": said.ended,
            }))
        };
        self.prompts.iter().zip(&self.texts).zip(said).map(one).collect()
    }

    /// Of one prompt `token_ids` and `generated` are at the top too.
    pub(super) fn result(
        &self,
        session: &Session,
        said: &[Generated],
        measured: &[Measured],
        tokenizer: &Tokenizer,
        out: Option<&Path>,
    ) -> Result<Value, Failure> {
        let mut prompts = self.lines(said, tokenizer)?;
        for (prompt, m) in prompts.iter_mut().zip(measured) {
            prompt["steps"] =
                json!({ "entropy": m.entropy, "surprisal": m.surprisal, "ce": m.ce, "kl": m.kl });
        }
        let mut result = json!({
            "model": session.name(),
            "unit": "nats",
            "edits": self.specs.iter().map(EditSpec::text).collect::<Vec<_>>(),
            "schedule": self.settings.schedule.as_ref().map(ToString::to_string),
            "out": out.as_ref().map(shown),
        });
        if let [only] = &prompts[..] {
            result["token_ids"] = only["token_ids"].clone();
            result["generated"] = only["generated"].clone();
        }
        result["prompts"] = Value::from(prompts);
        Ok(result)
    }
}
