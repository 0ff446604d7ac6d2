//! The prompts of a trace, in words and in tokens.

use anyhow::anyhow;
use layerscope::{
    intervene::patch::{PatchError, places},
    sources::text::Tokenizer,
};
use serde::Deserialize;

use super::super::{exit::Failure, session::Session};

/// The prompts in words.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) clean: String,
    pub(super) corrupted: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) foil: Option<String>,
}

/// The prompts in tokens.
pub(super) struct Prompts {
    pub(super) clean: Vec<i64>,
    pub(super) corrupted: Vec<i64>,
    /// Positions that get noise.
    pub(super) subject: Vec<i64>,
    pub(super) answer: Option<i64>,
    pub(super) foil: Option<i64>,
}

impl Case {
    /// In tokens.
    pub(super) fn prompts(&self, session: &Session, tokenizer: &Tokenizer) -> Result<Prompts, Failure> {
        let encode = |text: &str| -> Result<Vec<i64>, Failure> {
            Ok(tokenizer.encode(text)?.into_iter().map(i64::from).collect())
        };
        let clean = encode(&self.clean)?;
        let corrupted = self.corrupted.as_deref().map_or_else(|| Ok(clean.clone()), encode)?;
        let (n, context) = (clean.len(), session.spec.n_ctx);
        if n == 0 || n > context {
            return Err(Failure::usage(anyhow!("--clean gives {n} tokens; the model takes 1 to {context}")));
        }
        if corrupted.len() != n {
            let (clean, corrupted) = (n as i64, corrupted.len() as i64);
            return Err(Failure::usage(PatchError::Lengths { clean, corrupted }));
        }
        let subject = self.subject.as_deref().map(|part| places(tokenizer, &self.clean, part)).transpose();
        let subject = subject.map_err(Failure::usage)?.map_or_else(Vec::new, |(_, places)| places);
        let token = |text: &Option<String>| -> Result<Option<i64>, Failure> {
            let id = text.as_ref().map(|text| tokenizer.one_token(text)).transpose();
            id.map(|id| id.map(i64::from)).map_err(Failure::usage)
        };
        Ok(Prompts { clean, corrupted, subject, answer: token(&self.answer)?, foil: token(&self.foil)? })
    }
}

impl Prompts {
    /// What its effects are called: causal tracing adds noise.
    pub(super) fn kind(&self) -> &'static str {
        if self.subject.is_empty() { "patch" } else { "trace" }
    }
}
