//! Patchscopes: a prompt that asks what stands at one of its own places.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{PatchError, words::places};
use crate::{
    intervene::future::{Prompt, free_at, transplant_at},
    model::Model,
    sources::text::Tokenizer,
};

/// The targets that the papers use: token identity and description of Patchscopes (sections 4.1 and 4.3), the
/// instruction of `SelfIE` (Chen et al. 2024, arXiv 2403.10949).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Preset {
    /// A prompt that repeats its last token
    TokenIdentity,
    /// A prompt that describes the entity at its last token
    Description,
    /// An instruction to interpret five placeholders; for instructed models
    #[serde(rename = "selfie")]
    #[cfg_attr(feature = "cli", value(name = "selfie"))]
    SelfIe,
}

impl Preset {
    /// Its name, as settings have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenIdentity => "token-identity",
            Self::Description => "description",
            Self::SelfIe => "selfie",
        }
    }

    /// The prompt and what the states take the place of; none: its last token.
    pub fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::TokenIdentity => ("cat -> cat\n1135 -> 1135\nhello -> hello\n?", None),
            Self::Description => (
                "Syria: Country in the Middle East, Leonardo DiCaprio: American actor, Samsung: South Korean multinational \
                 major appliance and consumer electronics corporation, x",
                None,
            ),
            Self::SelfIe => ("[INST] _ _ _ _ _ [/INST] Sure, I'll summarize your message:", Some("_")),
        }
    }

    /// Tokens that are worth generating.
    pub fn steps(self) -> usize {
        match self {
            Self::TokenIdentity => 1,
            Self::Description => 20,
            Self::SelfIe => 30,
        }
    }
}

/// A target prompt and where states go into it.
#[derive(Debug)]
pub struct TargetPrompt {
    /// Its ids.
    pub prompt: Prompt,
    /// The positions that a state takes, ascending.
    pub places: Vec<i64>,
}

impl TargetPrompt {
    /// `text` in the model's tokens; a state takes the place of `placeholder` wherever it occurs, by default of the
    /// last token.
    ///
    /// # Errors
    /// When the text has no tokens, or the placeholder does not occur.
    pub fn new(text: &str, placeholder: Option<&str>, tokenizer: &Tokenizer) -> Result<Self, PatchError> {
        let (ids, places) = if let Some(part) = placeholder {
            places(tokenizer, text, part)?
        } else {
            let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
            let last = ids.len() as i64 - 1;
            (ids, vec![last])
        };
        if ids.is_empty() {
            return Err(PatchError::Empty { text: text.to_owned() });
        }
        Ok(Self { prompt: Prompt::Words(Tensor::from_slice(&ids)), places })
    }
}

/// One token of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// The token.
    pub token: i64,
    /// Its probability with the state in place.
    pub probability: f64,
    /// That minus its probability when nothing is replaced: `SelfIE`'s relevance.
    pub relevance: f64,
}

/// What the target says of one state.
#[derive(Debug)]
pub struct Inspected {
    /// The greedy answer.
    pub words: Vec<Word>,
    /// What leaves the last block where the first token is predicted: `[d_model]`.
    pub first: Tensor,
}

/// Puts every row of `states [rows, d_model]` into `target` at `layer` and lets the model answer by `steps` tokens (at
/// least one) out of the first `vocab`. The patch is of the prompt alone, and stays while the answer grows.
///
/// # Errors
/// When the target and the answer do not fit the context, or the layer is not there.
pub fn inspect(
    model: &Model,
    vocab: usize,
    target: &TargetPrompt,
    layer: usize,
    states: &Tensor,
    steps: usize,
    batch_tokens: usize,
) -> Result<Vec<Inspected>, PatchError> {
    let (prompt, places) = (&target.prompt, target.places.as_slice());
    let steps = free_at(model, vocab, (prompt, places), layer, states, steps.max(1), batch_tokens)?;
    let column = |of: &dyn Fn(usize) -> Tensor| {
        Tensor::f_cat(&(0..steps.len()).map(of).collect::<Vec<_>>(), 1)?.f_to_kind(Kind::Double)
    };
    let tokens = Tensor::f_cat(&steps.iter().map(|s| &s.token).collect::<Vec<_>>(), 1)?;
    let with = column(&|i| steps[i].probability.shallow_clone())?;
    let mut inspected = Vec::new();
    for row in 0..states.size()[0] {
        let own = tokens.narrow(0, row, 1);
        // Without the state the answer is fed: the same tokens, what the prompt alone would have made of them.
        let plain = tch::no_grad(|| {
            transplant_at(model, prompt, places, layer, None, &own.narrow(1, 0, own.size()[1] - 1))
        })?;
        let plain =
            model.unembed().logits(&plain)?.narrow(-1, 0, vocab as i64).f_softmax(-1, Kind::Double)?;
        let plain = plain.f_gather(-1, &own.unsqueeze(-1), false)?;
        let word = |i: i64| {
            let probability = with.double_value(&[row, i]);
            let relevance = probability - plain.double_value(&[0, i, 0]);
            Word { token: own.int64_value(&[0, i]), probability, relevance }
        };
        let words = (0..own.size()[1]).map(word).collect();
        inspected.push(Inspected { words, first: steps[0].state.get(row) });
    }
    Ok(inspected)
}
