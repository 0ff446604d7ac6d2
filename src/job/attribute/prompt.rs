//! One position of a prompt.

use serde_json::json;
use tch::Tensor;

use super::{Attribute, Attributed, Quantity, file, rows, token, told, write};
use crate::{
    attribution::{Attribution, Targets, attribute, likeliest},
    job::{JobError, Session, SetTo, Setting, Watch, claimed, kind_name, read_stdin},
    model::Model,
    results::run::{Claim, Counts, Found, RunDir},
    sources::text::{TokenText, Tokenizer},
    states::check_stream,
};

/// A token with its text.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its id.
    pub id: i64,
    /// Its text.
    pub text: TokenText,
}

/// What was asked of a prompt, and what was found.
#[derive(Debug)]
pub struct Asked {
    /// The prompt's tokens.
    pub tokens: Vec<Token>,
    /// At which of them.
    pub position: usize,
    /// The token whose logit is taken apart.
    pub answer: Token,
    /// The token that it is compared with.
    pub foil: Option<Token>,
    /// Row 0 is what was asked for; where that is no single logit, row 1 is the answer's, and row 2 the foil's.
    pub parts: Attribution,
    /// The same, MLPs whole.
    pub whole: Attribution,
}

/// A prompt in tokens.
struct Prompt {
    ids: Vec<i64>,
    position: usize,
    answer: Option<i64>,
    foil: Option<i64>,
}

impl Attribute {
    /// Takes the prompt's logit apart.
    pub(super) fn prompt(
        &self,
        text: &str,
        session: &Session,
        watch: &dyn Watch,
    ) -> Result<Attributed, JobError> {
        let tokenizer = session.tokenizer(watch)?;
        let text = if text == "-" { read_stdin()? } else { text.to_owned() };
        let prompt = self.read(&text, session, &tokenizer)?;
        session.announce(watch);
        let claim = self.claim(&prompt, session, &tokenizer, watch)?;
        let model = session.load(watch)?;
        let asked = self.take_apart(&prompt, model, session.vocab(&tokenizer), &tokenizer)?;
        let rows = rows::of_prompt(&asked, self.quantity(), self.neurons);
        if let Some(claim) = claim {
            let counts = Counts { documents: 1, tokens: prompt.ids.len() as u64, ..Counts::default() };
            write(claim, &rows, counts, |dir| file::of_prompt(dir, &asked))?;
        }
        let (n_layers, soft_cap) = (session.spec.n_layers, session.spec.logit_cap);
        Ok(Attributed { rows, asked: Some(asked), n_layers, quantity: self.quantity(), soft_cap })
    }

    /// In tokens, and where.
    fn read(&self, text: &str, session: &Session, tokenizer: &Tokenizer) -> Result<Prompt, JobError> {
        let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
        let (n, context) = (ids.len(), session.spec.n_ctx);
        if n == 0 || n > context {
            let prompt = Setting("prompt");
            return Err(JobError::usage(format!(
                "{prompt} gives {n} tokens; the model takes 1 to {context}"
            )));
        }
        let asked = self.position.unwrap_or(-1);
        let place = if asked < 0 { asked + n as i64 } else { asked };
        if !(0..n as i64).contains(&place) {
            let position = SetTo("position", asked);
            return Err(JobError::usage(format!("{position}: the prompt's positions are 0 to {}", n - 1)));
        }
        let answer = token(tokenizer, self.answer.as_ref())?;
        let foil = token(tokenizer, self.foil.as_ref())?;
        Ok(Prompt { ids, position: place as usize, answer, foil })
    }

    fn take_apart(
        &self,
        prompt: &Prompt,
        model: &Model,
        vocab: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Asked, JobError> {
        let ids = Tensor::from_slice(&prompt.ids).view([1, -1]);
        let place = prompt.position as i64;
        check_stream(model, &ids)?;
        let said = || Ok::<_, JobError>(likeliest(model, &ids, &[place], vocab)?[0]);
        let answer = prompt.answer.map_or_else(said, Ok)?;
        let unembed = model.unembed();
        let one = |id: i64| Targets::tokens(unembed, &[id]);
        let targets = match (self.quantity(), prompt.foil) {
            (Quantity::Difference, Some(foil)) => {
                vec![one(answer)?.less(&one(foil)?)?, one(answer)?, one(foil)?]
            }
            (Quantity::LessMean, _) => {
                vec![one(answer)?.less(&Targets::mean(unembed, vocab, 1)?)?, one(answer)?]
            }
            _ => vec![one(answer)?],
        };
        let rows = vec![place; targets.len()];
        let parts = attribute(model, &ids, &rows, &Targets::concat(&targets)?, self.neurons.is_some());
        let parts = parts.map_err(|error| told(error, |_| format!("position {place} of the prompt")))?;
        let token = |id: i64| Token { id, text: tokenizer.piece(id as u32) };
        Ok(Asked {
            tokens: prompt.ids.iter().map(|id| token(*id)).collect(),
            position: prompt.position,
            answer: token(answer),
            foil: prompt.foil.map(token),
            whole: parts.whole(),
            parts,
        })
    }

    fn claim(
        &self,
        prompt: &Prompt,
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.config = json!({
            "prompt": self.prompt, "prompt_ids": prompt.ids, "position": prompt.position, "answer": prompt.answer, "foil": prompt.foil,
            "less_mean": self.less_mean, "neurons": self.neurons, "dtype": kind_name(session.kind),
        });
        let claim = claimed(RunDir::claim(out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already; made again", out.display()));
        }
        Ok(Some(claim))
    }
}
