//! What was found, also as lines of JSON.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::ThoughtPrompt;
use crate::{
    intervene::{
        generate::continuation,
        think::{Effect, Embeddings, LensRead, Thinker, Thought},
    },
    job::JobError,
    results::run::MetricRow,
    sources::text::Tokenizer,
};

/// Everything that was found, prompts in their order.
#[derive(Debug)]
pub struct Thoughts {
    /// The prompts after their thoughts, with their answers.
    pub thinkers: Vec<Thinker>,
    /// Whether each answer ended.
    pub ended: Vec<bool>,
    /// Every prompt's thoughts.
    pub thoughts: Vec<Vec<Thought>>,
    /// What replacing them does to every prompt.
    pub effects: Vec<Vec<Effect>>,
    /// Whose thoughts each prompt gets as another's.
    pub others: Vec<Option<usize>>,
    /// How long embeddings are, to hold thoughts' lengths against.
    pub embeddings: EmbeddingLengths,
    /// Means over prompts, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

/// The distribution of the token embeddings' lengths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EmbeddingLengths {
    /// The mean.
    pub mean: f64,
    /// 5 % are no longer.
    pub p05: f64,
    /// The median.
    pub p50: f64,
    /// 95 % are no longer.
    pub p95: f64,
}

impl EmbeddingLengths {
    pub(super) fn of(embeddings: &Embeddings) -> Self {
        let at = |share| embeddings.norm_at(share);
        Self { mean: embeddings.mean_norm(), p05: at(0.05), p50: at(0.5), p95: at(0.95) }
    }
}

/// In a sentence.
impl fmt::Display for EmbeddingLengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, p05, p95, .. } = self;
        write!(f, "lengths of embeddings: mean {mean:.3}, 90 % of them {p05:.3} to {p95:.3}")
    }
}

impl Thoughts {
    /// What `thoughts.jsonl` says of every prompt.
    pub(super) fn lines(
        &self,
        prompts: &[ThoughtPrompt],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Value>, JobError> {
        let line = |(i, thinker): (usize, &Thinker)| -> Result<Value, JobError> {
            let effects = self.effects[i].iter().map(|e| effect_line(e, thinker, tokenizer));
            Ok(json!({
                "prompt": thinker.prompt,
                "text": prompts[i].text,
                "prompt_ids": thinker.ids,
                "token_ids": thinker.answer,
                "generated": continuation(tokenizer, &thinker.ids, &thinker.answer)?,
                "ended": self.ended[i],
                "thoughts": self.thoughts[i].iter().map(|t| thought_line(t, tokenizer)).collect::<Vec<_>>(),
                "replaced": effects.collect::<Result<Vec<_>, _>>()?,
                "other": self.others[i],
            }))
        };
        self.thinkers.iter().enumerate().map(line).collect()
    }
}

fn thought_line(t: &Thought, tokenizer: &Tokenizer) -> Value {
    let token = |id: u32| tokenizer.piece(id).text;
    let top = |list: &[(u32, f64)], name: &str| -> Vec<Value> {
        list.iter().map(|(id, x)| json!({ "token_id": id, "token": token(*id), name: x })).collect()
    };
    let lens = |l: &LensRead| json!({ "lens": l.lens, "horizon": l.horizon, "top": top(&l.read.top, "probability"), "entropy": l.read.entropy });
    json!({
        "step": t.step,
        "norm": t.norm,
        "norm_percentile": t.percentile,
        "nearest": top(&t.nearest, "cosine"),
        "cosine_previous": t.previous,
        "greedy": { "token_id": t.greedy.0, "token": token(t.greedy.0), "cosine": t.greedy.1 },
        "lenses": t.lenses.iter().map(lens).collect::<Vec<_>>(),
        "after": { "top": top(&t.after.top, "probability"), "entropy": t.after.entropy },
    })
}

fn effect_line(effect: &Effect, thinker: &Thinker, tokenizer: &Tokenizer) -> Result<Value, JobError> {
    let answer = effect.answer.as_ref();
    let answer = answer.map(|ids| continuation(tokenizer, &thinker.ids, ids)).transpose()?;
    Ok(json!({ "replacement": effect.case.subject(), "kl": effect.kl, "agrees": effect.agrees,
               "surprisal_increase": effect.surprisal_increase, "kl_answer": effect.kl_answer,
               "token_ids": effect.answer, "generated": answer }))
}
