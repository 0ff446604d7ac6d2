//! Text while it is generated.

use crate::{
    intervene::generate::{GeneratedToken, Prompt, continuation},
    job::JobError,
    sources::text::Tokenizer,
};

/// Who hears text while it is generated: a terminal, a stream of events. `()` does not listen.
pub trait Listener {
    /// A token was chosen.
    ///
    /// # Errors
    /// Whatever keeps the listener from going on, which ends the job.
    fn hear(&mut self, token: &NewToken<'_>) -> Result<(), JobError> {
        let _ = token;
        Ok(())
    }

    /// Every prompt has been continued; `texts` are what each became, without the prompt and the end token.
    ///
    /// # Errors
    /// Whatever keeps the listener from going on, which ends the job.
    fn end(&mut self, texts: &[String]) -> Result<(), JobError> {
        let _ = texts;
        Ok(())
    }

    /// Whether the numbers by step are wanted also where nothing changes the model and no run is written: they cost a
    /// pass.
    fn wants_numbers(&self) -> bool {
        true
    }
}

impl Listener for () {}

/// A token as it is chosen.
pub struct NewToken<'a> {
    /// The prompt's number, from 0.
    pub prompt: usize,
    /// 1 is the first new token.
    pub step: usize,
    /// The token.
    pub id: u32,
    texts: &'a Texts<'a>,
}

impl NewToken<'_> {
    /// The token's own text.
    pub fn piece(&self) -> String {
        self.texts.tokenizer.piece(self.id).text
    }

    /// What the prompt has become so far, without the prompt and the end token. Its last character may still be
    /// incomplete.
    ///
    /// # Errors
    /// Ids that the tokenizer cannot decode.
    pub fn text(&self) -> Result<String, JobError> {
        self.texts.text(self.prompt)
    }
}

/// What the prompts have become so far.
pub(super) struct Texts<'a> {
    tokenizer: &'a Tokenizer,
    prompts: &'a [Prompt],
    /// Tokens that are not text.
    stop: &'a [u32],
    tokens: Vec<Vec<u32>>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, prompts: &'a [Prompt], stop: &'a [u32]) -> Self {
        Self { tokenizer, prompts, stop, tokens: vec![Vec::new(); prompts.len()] }
    }

    /// Takes a token and tells the listener.
    pub(super) fn tell(
        &mut self,
        token: GeneratedToken,
        listener: &mut dyn Listener,
    ) -> Result<(), JobError> {
        self.tokens[token.prompt].push(token.token);
        let (prompt, step, id) = (token.prompt, token.step + 1, token.token);
        listener.hear(&NewToken { prompt, step, id, texts: self })
    }

    /// The text of every prompt.
    pub(super) fn all(&self) -> Result<Vec<String>, JobError> {
        (0..self.prompts.len()).map(|prompt| self.text(prompt)).collect()
    }

    fn text(&self, prompt: usize) -> Result<String, JobError> {
        let tokens = &self.tokens[prompt];
        let spoken = match tokens.split_last() {
            Some((last, rest)) if self.stop.contains(last) => rest,
            _ => tokens,
        };
        Ok(continuation(self.tokenizer, &self.prompts[prompt].ids, spoken)?)
    }
}
