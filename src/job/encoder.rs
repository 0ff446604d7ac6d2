//! What encoders are asked: which jobs take them, and which of their positions are read.

use super::{JobError, Session, SetTo};
use crate::{
    sources::text::Tokenizer,
    states::{Masker, Masking},
};

impl Session {
    /// Refuses an encoder, for a job whose text goes on or whose tokens are those that follow.
    ///
    /// # Errors
    /// The job and the model by name, and what encoders are for.
    pub fn needs_decoder(&self, job: &str) -> Result<(), JobError> {
        if self.spec.encoder.is_none() {
            return Ok(());
        }
        Err(JobError::usage(format!(
            "{job}: {} ({}) is an encoder, which sees what follows a token and does not say it; encoders take export, probe sweep, \
             view, and lens fit, eval and transfer behind masks",
            self.name(),
            self.spec.family
        )))
    }

    /// Refuses an encoder that was stored without its head, for a job that reads words.
    ///
    /// # Errors
    /// The job and the model by name, and what can be done with such a model.
    pub fn needs_head(&self, job: &str) -> Result<(), JobError> {
        if self.spec.has_head() {
            return Ok(());
        }
        Err(JobError::usage(format!(
            "{job}: {} ({}) is stored without its masked-language-model head, and no state of it can be read as words; \
             export, probe sweep and lens transfer's geometry need none",
            self.name(),
            self.spec.family
        )))
    }

    /// What hides the tokens of an encoder's text, as asked for or `random`; none for a decoder.
    ///
    /// # Errors
    /// Masks for a decoder, or an encoder whose tokenizer has no mask token.
    pub fn masker(
        &self,
        asked: Option<Masking>,
        tokenizer: &Tokenizer,
        seed: u64,
    ) -> Result<Option<Masker>, JobError> {
        if self.spec.encoder.is_none() {
            return match asked {
                None => Ok(None),
                Some(_) => Err(JobError::setting(
                    "mask",
                    format!(
                        "{} ({}) is a decoder, which no token is hidden from",
                        self.name(),
                        self.spec.family
                    ),
                )),
            };
        }
        let masking = asked.unwrap_or(Masking::Random);
        let masker = Masker::new(masking, tokenizer, seed).ok_or_else(|| {
            JobError::usage(format!("{}: no file names a mask token", SetTo("mask", name(masking))))
        });
        masker.map(Some)
    }
}

/// How a masking is spelled.
pub(crate) fn name(masking: Masking) -> &'static str {
    match masking {
        Masking::All => "all",
        Masking::Random => "random",
    }
}
