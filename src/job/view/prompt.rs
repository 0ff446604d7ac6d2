//! The prompts of a view.

use std::num::NonZeroUsize;

use super::View;
use crate::{
    job::{BoxError, JobError, Session, SetTo, Setting, read_stdin},
    sources::text::{TokenText, Tokenizer, excerpt},
};

/// A prompt as it went through the model.
pub struct Prompt {
    /// As it was given.
    pub text: String,
    /// Its ids, special tokens included.
    pub ids: Vec<u32>,
    /// Its tokens.
    pub tokens: Vec<TokenText>,
}

impl View {
    /// An error of one prompt, which names it where there are several.
    pub(super) fn of(&self, prompt: &Prompt, error: impl Into<BoxError>) -> JobError {
        let error = JobError::failed(error);
        if self.text.len() > 1 {
            error.at(&SetTo("text", format!("{:?}", prompt.text)).to_string())
        } else {
            error
        }
    }

    pub(super) fn prompts(&self, session: &Session, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, JobError> {
        if self.text.iter().filter(|text| *text == "-").count() > 1 {
            return Err(JobError::setting("text", "stdin (`-`) can be read once"));
        }
        let read = |text: &String| if text == "-" { read_stdin() } else { Ok(text.clone()) };
        let plain = self.text.iter().map(|text| self.prompt(read(text)?, false, session, tokenizer));
        let mut prompts = plain.collect::<Result<Vec<_>, _>>()?;
        for text in self.chat.prompts(session)?.texts {
            prompts.push(self.prompt(text, true, session, tokenizer)?);
        }
        Ok(prompts)
    }

    fn prompt(
        &self,
        text: String,
        chat: bool,
        session: &Session,
        tokenizer: &Tokenizer,
    ) -> Result<Prompt, JobError> {
        if text.is_empty() {
            return Err(JobError::usage(format!("{} is empty", Setting("text"))));
        }
        let mut ids = if chat { tokenizer.encode_chat(&text)? } else { tokenizer.encode(&text)? };
        ids.truncate(self.tokens.map_or(usize::MAX, NonZeroUsize::get));
        let (n, context) = (ids.len(), session.spec.n_ctx);
        if text.is_empty() {
            return Err(JobError::usage(format!("{} is empty", Setting("text"))));
        }
        if n == 0 {
            return Err(JobError::usage(format!("{} gives no tokens", SetTo("text", excerpt(&text)))));
        }
        if n > context {
            let (text, first) = (SetTo("text", excerpt(&text)), SetTo("tokens", context));
            return Err(JobError::usage(format!(
                "{text} gives {n} tokens, the model's context is {context}; {first} looks at the first ones"
            )));
        }
        let tokens = ids.iter().map(|&id| tokenizer.piece(id)).collect();
        Ok(Prompt { text, ids, tokens })
    }
}
