//! A prompt and what is asked of it, in tokens.

use tch::Tensor;

use super::{Quantity, token};
use crate::{
    attribution::{Targets, likeliest},
    job::{JobError, Session, SetTo, Setting},
    model::Model,
    sources::text::Tokenizer,
};

/// A prompt in tokens.
pub(super) struct Prompt {
    pub(super) ids: Vec<i64>,
    pub(super) position: usize,
    pub(super) answer: Option<i64>,
    pub(super) foil: Option<i64>,
}

impl Prompt {
    /// In tokens, and where. `answer` and `foil` are single tokens, the position is by default the last.
    pub(super) fn read(
        text: &str,
        (answer, foil, position): (Option<&String>, Option<&String>, Option<i64>),
        session: &Session,
        tokenizer: &Tokenizer,
    ) -> Result<Self, JobError> {
        let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
        let (n, context) = (ids.len(), session.spec.n_ctx);
        if n == 0 || n > context {
            let prompt = Setting("prompt");
            return Err(JobError::usage(format!(
                "{prompt} gives {n} tokens; the model takes 1 to {context}"
            )));
        }
        let asked = position.unwrap_or(-1);
        let place = if asked < 0 { asked + n as i64 } else { asked };
        if !(0..n as i64).contains(&place) {
            let position = SetTo("position", asked);
            return Err(JobError::usage(format!("{position}: the prompt's positions are 0 to {}", n - 1)));
        }
        let (answer, foil) = (token(tokenizer, answer)?, token(tokenizer, foil)?);
        Ok(Self { ids, position: place as usize, answer, foil })
    }

    /// The answer, and what is taken apart: first the quantity itself, then, where that is no single logit, the
    /// answer's logit and the foil's.
    pub(super) fn targets(
        &self,
        model: &Model,
        vocab: usize,
        quantity: Quantity,
    ) -> Result<(i64, Vec<Targets>), JobError> {
        let said = || {
            let ids = Tensor::from_slice(&self.ids).view([1, -1]);
            Ok::<_, JobError>(likeliest(model, &ids, &[self.position as i64], vocab)?[0])
        };
        let answer = self.answer.map_or_else(said, Ok)?;
        let unembed = model.unembed();
        let one = |id: i64| Targets::tokens(unembed, &[id]);
        let targets = match (quantity, self.foil) {
            (Quantity::Difference, Some(foil)) => {
                vec![one(answer)?.less(&one(foil)?)?, one(answer)?, one(foil)?]
            }
            (Quantity::LessMean, _) => {
                vec![one(answer)?.less(&Targets::mean(unembed, vocab)?)?, one(answer)?]
            }
            _ => vec![one(answer)?],
        };
        Ok((answer, targets))
    }
}
