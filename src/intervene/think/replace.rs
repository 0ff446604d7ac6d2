//! What stands in a thought's place.

use std::{fmt, str::FromStr};

use tch::{Kind, Tensor};

use super::ThinkError;
use crate::results::{
    draw::{derangement, draw, normal},
    run::{Parts, Subject},
};

/// A thing that is not the thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replacement {
    /// Zeros.
    Zero,
    /// The mean of all prompts' thoughts of that step.
    Mean,
    /// The thought of that step of another prompt; each prompt's is used once.
    Other,
    /// A direction drawn evenly, as long as the thought.
    Random,
    /// The embedding of the token that the model says there; for all thoughts together that is plain decoding.
    Greedy,
}

impl Replacement {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Zero, Self::Mean, Self::Other, Self::Random, Self::Greedy];

    /// In results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Mean => "mean",
            Self::Other => "other",
            Self::Random => "random",
            Self::Greedy => "greedy",
        }
    }

    /// Whether it is made of other prompts' thoughts.
    pub fn needs_others(self) -> bool {
        matches!(self, Self::Mean | Self::Other)
    }
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Replacement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|r| r.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|r| r.name()).collect();
            format!("`{text}` is none of {}", names.join(", "))
        })
    }
}

/// Which thoughts are replaced, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Every thought.
    All(Replacement),
    /// Thought `.1`, from 1; the others stay as they were.
    One(Replacement, usize),
    /// Thought `.1`, from 1; those before it stay, those after it are thought anew.
    Anew(Replacement, usize),
    /// The answer follows the prompt without any.
    None,
}

impl Case {
    /// Whether no thought of the prompt's own is left.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::All(_) | Self::None)
    }

    /// Every case of `steps` thoughts: all together, none at all, then one by one (where there are several), with later
    /// ones thought anew where there are any.
    pub fn of(replacements: &[Replacement], steps: usize) -> Vec<Self> {
        if steps == 0 {
            return Vec::new();
        }
        let all = replacements.iter().map(|r| Self::All(*r)).chain([Self::None]);
        let ones = (1..=if steps > 1 { steps } else { 0 })
            .flat_map(|step| replacements.iter().map(move |r| Self::One(*r, step)));
        let anew = (1..steps).flat_map(|step| replacements.iter().map(move |r| Self::Anew(*r, step)));
        all.chain(ones).chain(anew).collect()
    }
}

/// `zero`, `zero@3`, `zero@3+`, `none`.
impl Case {
    /// Whose numbers the case's are.
    pub fn subject(self) -> Subject {
        let at = |replacement: Replacement, step, anew| {
            Parts::Step { of: replacement.to_string(), step, anew }.into()
        };
        match self {
            Self::All(replacement) => replacement.name().into(),
            Self::One(replacement, step) => at(replacement, step, false),
            Self::Anew(replacement, step) => at(replacement, step, true),
            Self::None => "none".into(),
        }
    }
}

/// The thoughts of all prompts, to take replacements from.
#[derive(Debug)]
pub struct Replacements {
    /// Per prompt `[K, d_model]`.
    thoughts: Vec<Tensor>,
    /// `[K, d_model]`.
    mean: Option<Tensor>,
    /// Whose thoughts every prompt gets.
    others: Option<Vec<usize>>,
    seed: u64,
}

impl Replacements {
    /// From the thoughts `[K, d_model]` of every prompt.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn new(thoughts: Vec<Tensor>, seed: u64) -> Result<Self, ThinkError> {
        let several = thoughts.len() > 1;
        let mean = |all: &[Tensor]| -> Result<Tensor, ThinkError> {
            let sum = all.iter().skip(1).try_fold(all[0].f_to_kind(Kind::Double)?, |sum, t| sum.f_add(t))?;
            Ok(sum.f_div_scalar(all.len() as f64)?.f_to_kind(all[0].kind())?)
        };
        let mean = if several { Some(mean(&thoughts)?) } else { None };
        let others = derangement(seed, thoughts.len());
        Ok(Self { thoughts, mean, others, seed })
    }

    /// The thoughts of a prompt, `[K, d_model]`.
    pub fn own(&self, prompt: usize) -> &Tensor {
        &self.thoughts[prompt]
    }

    /// Whose thoughts `prompt` gets as another's.
    pub fn other(&self, prompt: usize) -> Option<usize> {
        self.others.as_ref().map(|others| others[prompt])
    }

    /// What `prompt` is fed in a case, `[K, d_model]` (none: `[0, d_model]`; those that are to be thought anew are left
    /// out). `greedy [K, d_model]` are the embeddings that stand for its thoughts.
    ///
    /// # Errors
    /// [`ThinkError::NeedsOthers`].
    pub fn of(&self, case: Case, prompt: usize, greedy: &Tensor) -> Result<Tensor, ThinkError> {
        let own = self.own(prompt);
        match case {
            Case::None => Ok(own.f_narrow(0, 0, 0)?),
            Case::All(replacement) => self.made(replacement, prompt, greedy),
            Case::Anew(replacement, step) => {
                Ok(self.of(Case::One(replacement, step), prompt, greedy)?.f_narrow(0, 0, step as i64)?)
            }
            Case::One(replacement, step) => {
                let (place, made) = (step as i64 - 1, self.made(replacement, prompt, greedy)?);
                Ok(own.f_slice_scatter(&made.f_narrow(0, place, 1)?, 0, place, place + 1, 1)?)
            }
        }
    }

    fn made(&self, replacement: Replacement, prompt: usize, greedy: &Tensor) -> Result<Tensor, ThinkError> {
        let own = self.own(prompt);
        let alone =
            || ThinkError::NeedsOthers { replacement: replacement.name(), prompts: self.thoughts.len() };
        Ok(match replacement {
            Replacement::Zero => own.f_zeros_like()?,
            Replacement::Mean => self.mean.as_ref().ok_or_else(alone)?.shallow_clone(),
            Replacement::Other => {
                let other = self.other(prompt).ok_or_else(alone)?;
                self.thoughts[other].shallow_clone()
            }
            Replacement::Random => self.random(prompt)?,
            Replacement::Greedy => greedy.shallow_clone(),
        })
    }

    /// Normal numbers, scaled to the thoughts' lengths; they come from (seed, prompt, step).
    fn random(&self, prompt: usize) -> Result<Tensor, ThinkError> {
        let own = self.own(prompt);
        let (steps, d) = own.size2()?;
        let key = draw(self.seed, prompt as u64, 0);
        let numbers: Vec<f64> =
            (0..steps as u64).flat_map(|step| (0..d as u64).map(move |i| normal(key, step, i))).collect();
        let drawn = Tensor::from_slice(&numbers).f_view([steps, d])?.to_device(own.device());
        let length =
            |t: &Tensor| t.f_to_kind(Kind::Double)?.f_norm_scalaropt_dim(2.0, [-1_i64].as_slice(), true);
        Ok(drawn.f_mul(&length(own)?.f_div(&length(&drawn)?)?)?.f_to_kind(own.kind())?)
    }
}
