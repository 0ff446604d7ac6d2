//! The prompts of a trace, in words and in tokens.

use crate::{
    intervene::patch::{PatchError, places},
    results::run::RowKind,
    sources::text::Tokenizer,
};
use serde::Deserialize;

use crate::job::{JobError, Session, Setting};

/// The prompts in words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The prompt that gives the answer.
    pub clean: String,
    /// The prompt that does not, of as many tokens.
    pub corrupted: Option<String>,
    /// Words of the clean prompt whose embeddings get noise.
    pub subject: Option<String>,
    /// The answer, one token.
    pub answer: Option<String>,
    /// What it is compared with, one token.
    pub foil: Option<String>,
}

/// The prompts in tokens.
pub struct Prompts {
    /// The clean prompt.
    pub clean: Vec<i64>,
    /// The corrupted one.
    pub corrupted: Vec<i64>,
    /// Positions that get noise.
    pub subject: Vec<i64>,
    /// The answer.
    pub answer: Option<i64>,
    /// What it is compared with.
    pub foil: Option<i64>,
}

impl Case {
    /// In tokens.
    ///
    /// # Errors
    /// A prompt that is too long, prompts of different lengths, an answer that is not one token.
    pub fn prompts(&self, session: &Session, tokenizer: &Tokenizer) -> Result<Prompts, JobError> {
        let encode = |text: &str| -> Result<Vec<i64>, JobError> {
            Ok(tokenizer.encode(text)?.into_iter().map(i64::from).collect())
        };
        let clean = encode(&self.clean)?;
        let corrupted = self.corrupted.as_deref().map_or_else(|| Ok(clean.clone()), encode)?;
        let (n, context) = (clean.len(), session.spec.n_ctx);
        if n == 0 || n > context {
            return Err(JobError::usage(format!(
                "{} gives {n} tokens; the model takes 1 to {context}",
                Setting("clean")
            )));
        }
        if corrupted.len() != n {
            let (clean, corrupted) = (n as i64, corrupted.len() as i64);
            return Err(JobError::usage(PatchError::Lengths { clean, corrupted }));
        }
        let subject = self.subject.as_deref().map(|part| places(tokenizer, &self.clean, part)).transpose();
        let subject = subject.map_err(JobError::usage)?.map_or_else(Vec::new, |(_, places)| places);
        let token = |text: &Option<String>| -> Result<Option<i64>, JobError> {
            let id = text.as_ref().map(|text| tokenizer.one_token(text)).transpose();
            id.map(|id| id.map(i64::from)).map_err(JobError::usage)
        };
        Ok(Prompts { clean, corrupted, subject, answer: token(&self.answer)?, foil: token(&self.foil)? })
    }
}

impl Prompts {
    /// What its effects are called: causal tracing adds noise.
    pub fn kind(&self) -> RowKind {
        if self.subject.is_empty() { RowKind::Patch } else { RowKind::Trace }
    }
}

impl Case {
    /// One way of corruption, as on the command line.
    pub(super) fn check(&self) -> Result<(), JobError> {
        match (&self.corrupted, &self.subject) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(JobError::usage("a prompt needs `corrupted` or `subject`, one of them")),
        }
    }
}
