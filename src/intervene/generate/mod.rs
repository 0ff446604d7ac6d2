//! Generation: a prompt goes on, token by token, past the same taps as any other pass.
//!
//! A tap sees the prompt's pass; what it changed there stays in the keys and values that later tokens read, and later
//! passes go by without it ([`TapSteps::Prompt`]), or it sees them too ([`TapSteps::All`]). With a cache and without
//! one the tokens are the same.

mod error;
mod measure;
mod prompt_only;
mod sample;
mod stop;
mod text;

use std::ops::ControlFlow;

pub use error::GenerateError;
pub use measure::{Measured, measure, metric_rows};
use prompt_only::PromptOnly;
pub use sample::Sampling;
pub use stop::stop_ids;
use tch::Tensor;
pub use text::continuation;

use crate::{
    hook::Tap,
    model::{Cache, Model, Schedule, wide},
};

/// Which tokens' passes a tap sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum TapSteps {
    /// Those of the prompt, once
    #[default]
    Prompt,
    /// Generated ones too, each once
    All,
}

/// How to go on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most tokens to say.
    pub max_new_tokens: usize,
    /// Tokens that end a row; the one said is kept.
    pub stop: Vec<u32>,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Keep keys and values, in place of running the whole sequence for every token.
    pub cache: bool,
    /// Which passes the tap sees.
    pub tap_steps: TapSteps,
    /// Tokens that can be said are those below; none: all that the model has.
    pub vocab: Option<usize>,
    /// Run the blocks in this order; none: the model's own.
    pub schedule: Option<Schedule>,
    /// Keep the logits of every step.
    pub keep_logits: bool,
}

impl Settings {
    /// Greedy, with a cache, without an end token.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            stop: Vec::new(),
            sampling: Sampling::GREEDY,
            cache: true,
            tap_steps: TapSteps::Prompt,
            vocab: None,
            schedule: None,
            keep_logits: false,
        }
    }
}

/// A prompt and its number, which random draws depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its number in the run.
    pub index: usize,
    /// Its tokens.
    pub ids: Vec<u32>,
}

/// What a prompt became.
#[derive(Debug)]
pub struct Generated {
    /// The new tokens, an end token included.
    pub tokens: Vec<u32>,
    /// Whether an end token was said.
    pub ended: bool,
    /// Logits `[tokens, vocab]` that each was chosen from, where they are kept.
    pub logits: Option<Tensor>,
}

/// A token as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratedToken {
    /// The prompt's number.
    pub prompt: usize,
    /// 0 is the first new token.
    pub step: usize,
    /// The token.
    pub token: u32,
}

/// Continues prompts of one length as one batch. `watch` hears every token and may end the whole batch.
///
/// # Errors
/// [`GenerateError`]: prompts that cannot be run, logits that are not finite, a tap that ends the pass.
pub fn generate(
    model: &Model,
    prompts: &[Prompt],
    settings: &Settings,
    tap: &mut dyn Tap,
    watch: &mut dyn FnMut(GeneratedToken) -> ControlFlow<()>,
) -> Result<Vec<Generated>, GenerateError> {
    let _no_grad = tch::no_grad_guard();
    let prompt = check(model, prompts, settings)?;
    // Some models rotate longer texts otherwise (`longrope`): then keys of the shorter text are of no use.
    let alike = model.spec().rotates_alike(prompt, prompt + settings.max_new_tokens.saturating_sub(1));
    let cache = (settings.cache && alike).then(Cache::new);
    let mut runner = Runner { model, settings, prompt, cache, tap };
    let mut ids = matrix(prompts.iter().map(|p| p.ids.as_slice()));
    let mut rows: Vec<Row> = prompts.iter().map(|_| Row::default()).collect();
    for step in 0..settings.max_new_tokens {
        let logits = runner.next(&ids)?;
        let mut said = Vec::with_capacity(rows.len());
        for ((row, prompt), logits) in rows.iter_mut().zip(prompts).zip(logits.unbind(0)) {
            let place = (prompt.index, step);
            let token = settings.sampling.choose(&logits, place)?;
            said.push(token);
            if row.ended {
                continue; // rides along, for the others
            }
            row.take(token, logits, settings);
            if watch(GeneratedToken { prompt: prompt.index, step, token }).is_break() {
                return rows.into_iter().map(Row::finish).collect();
            }
        }
        if rows.iter().all(|row| row.ended) {
            break;
        }
        ids = Tensor::f_cat(&[ids, matrix(said.chunks(1))], 1)?;
    }
    rows.into_iter().map(Row::finish).collect()
}

/// Numbers of prompts that have the same length and so can share a batch, in order of first appearance.
pub fn same_length(prompts: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, ids) in prompts.iter().enumerate() {
        match groups.iter_mut().find(|group| prompts[group[0]].len() == ids.len()) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The prompts' length.
fn check(model: &Model, prompts: &[Prompt], settings: &Settings) -> Result<usize, GenerateError> {
    let n = prompts.first().map_or(0, |prompt| prompt.ids.len());
    if let Some(other) = prompts.iter().find(|prompt| prompt.ids.len() != n) {
        return Err(GenerateError::Lengths { first: n, prompt: other.index, tokens: other.ids.len() });
    }
    let context = model.spec().n_ctx;
    // The last token is said, not read.
    if n == 0 || n + settings.max_new_tokens.saturating_sub(1) > context {
        return Err(GenerateError::Context { tokens: n, new: settings.max_new_tokens, context });
    }
    settings.sampling.check()?;
    Ok(n)
}

fn matrix<'a>(rows: impl ExactSizeIterator<Item = &'a [u32]>) -> Tensor {
    let n = rows.len() as i64;
    let flat: Vec<i64> = rows.flatten().map(|id| i64::from(*id)).collect();
    Tensor::from_slice(&flat).view([n, -1])
}

/// A row in the making.
#[derive(Default)]
struct Row {
    tokens: Vec<u32>,
    logits: Vec<Tensor>,
    ended: bool,
}

impl Row {
    fn take(&mut self, token: u32, logits: Tensor, settings: &Settings) {
        self.tokens.push(token);
        if settings.keep_logits {
            self.logits.push(logits);
        }
        self.ended = settings.stop.contains(&token);
    }

    fn finish(self) -> Result<Generated, GenerateError> {
        let logits = (!self.logits.is_empty()).then(|| Tensor::f_stack(&self.logits, 0)).transpose()?;
        Ok(Generated { tokens: self.tokens, ended: self.ended, logits })
    }
}

/// Passes over a growing sequence.
struct Runner<'a> {
    model: &'a Model,
    settings: &'a Settings,
    prompt: usize,
    cache: Option<Cache>,
    tap: &'a mut dyn Tap,
}

impl Runner<'_> {
    /// Logits `[batch, vocab]` after the last of `ids [batch, seq]`.
    fn next(&mut self, ids: &Tensor) -> Result<Tensor, GenerateError> {
        let (seq, first) = (ids.size()[1] as usize, ids.size()[1] as usize == self.prompt);
        let mut nobody = ();
        let mut prompt_only;
        let seen = self.cache.as_ref().map_or(0, Cache::positions);
        let tap: &mut dyn Tap = if first || self.settings.tap_steps == TapSteps::All {
            self.tap
        } else if seen > 0 {
            &mut nobody // the prompt is in the cache as the tap left it
        } else {
            prompt_only = PromptOnly::new(self.tap, self.prompt);
            &mut prompt_only
        };
        let own = Schedule::identity(self.model.spec().n_layers);
        let schedule = self.settings.schedule.as_ref().unwrap_or(&own);
        let new = ids.f_narrow(1, seen as i64, (seq - seen) as i64)?;
        let logits = self.model.forward_along(&new, schedule, self.cache.as_mut(), tap)?;
        let last = logits.ok_or(GenerateError::Ended)?.f_select(1, -1)?;
        let vocab = self.settings.vocab.map_or(last.size()[1], |n| (n as i64).min(last.size()[1]));
        Ok(last.f_narrow(1, 0, vocab)?.f_to_device(tch::Device::Cpu)?.f_to_kind(wide(last.kind()))?)
    }
}
