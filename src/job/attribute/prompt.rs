//! One position of a prompt.

use std::num::NonZeroUsize;

use serde_json::json;
use tch::Tensor;

use super::{Attribute, Attributed, Prompt, file, rows, told, write};
use crate::{
    attribution::{Attribution, Component, Targets, Words, attribute, words},
    job::{JobError, Session, Watch, claimed_anew, kind_name, read_stdin},
    model::Model,
    results::run::{Claim, Counts},
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
    /// The heads, then the neurons that brought most, and what they say.
    pub says: Vec<(Component, Says)>,
}

/// The tokens that a component moves most, with what it brings to them more than to all.
#[derive(Debug)]
pub struct Says {
    /// Those it raises, largest first.
    pub raised: Vec<(Token, f64)>,
    /// Those it lowers.
    pub lowered: Vec<(Token, f64)>,
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
        let wanted = (self.answer.as_ref(), self.foil.as_ref(), self.position);
        let prompt = Prompt::read(&text, wanted, session, &tokenizer)?;
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
        let (answer, targets) = prompt.targets(model, vocab, self.quantity())?;
        let rows = vec![place; targets.len()];
        let parts = attribute(model, &ids, &rows, &Targets::concat(&targets)?, self.neurons.is_some());
        let parts = parts.map_err(|error| told(error, |_| format!("position {place} of the prompt")))?;
        let token = |id: i64| Token { id, text: tokenizer.piece(id as u32) };
        let whole = parts.whole();
        let shown = self.shown(&parts, &whole);
        let words = words(model, (&ids, place), &shown, (vocab, self.words))?;
        let named = |all: Vec<(i64, f64)>| all.into_iter().map(|(id, value)| (token(id), value)).collect();
        let says = |words: Words| Says { raised: named(words.raised), lowered: named(words.lowered) };
        Ok(Asked {
            tokens: prompt.ids.iter().map(|id| token(*id)).collect(),
            position: prompt.position,
            answer: token(answer),
            foil: prompt.foil.map(token),
            says: shown.into_iter().zip(words.into_iter().map(says)).collect(),
            whole,
            parts,
        })
    }

    /// The heads and the neurons that are shown: those that brought most, to either side.
    fn shown(&self, parts: &Attribution, whole: &Attribution) -> Vec<Component> {
        let neurons = self.neurons.map_or(0, NonZeroUsize::get);
        let mut shown = whole.largest(self.top, |component| component.head().is_some());
        shown.extend(parts.largest(neurons, |component| component.neuron().is_some()));
        shown
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
        claimed_anew(out, manifest, self.force, watch).map(Some)
    }
}
