//! What was found, as it is told.

use layerscope::{
    intervene::think::{Effect, Embeddings, LensRead, Thinker, Thought},
    results::run::MetricRow,
    sources::text::Tokenizer,
};
use serde_json::{Value, json};

use super::job::Job;
use crate::cli::{exit::Failure, generate::continuation};

/// Everything that was found, prompts in their order.
pub(super) struct Found {
    pub(super) thinkers: Vec<Thinker>,
    pub(super) ended: Vec<bool>,
    pub(super) thoughts: Vec<Vec<Thought>>,
    pub(super) effects: Vec<Vec<Effect>>,
    pub(super) rows: Vec<MetricRow>,
    /// Whose thoughts each prompt gets as another's.
    pub(super) others: Vec<Option<usize>>,
    pub(super) embeddings: Embeddings,
}

impl Found {
    /// The distribution of the embeddings' lengths.
    pub(super) fn embedding_norm(&self) -> Value {
        let at = |share| self.embeddings.norm_at(share);
        json!({ "mean": self.embeddings.mean_norm(), "p05": at(0.05), "p50": at(0.5), "p95": at(0.95) })
    }

    /// The same in words.
    pub(super) fn embedding_line(&self) -> String {
        let at = |share| self.embeddings.norm_at(share);
        let mean = self.embeddings.mean_norm();
        format!("lengths of embeddings: mean {mean:.3}, 90 % of them {:.3} to {:.3}", at(0.05), at(0.95))
    }

    /// What is told of every prompt.
    pub(super) fn lines(&self, job: &Job, tokenizer: &Tokenizer) -> Result<Vec<Value>, Failure> {
        let words = |thinker: &Thinker, ids: &[u32]| continuation(tokenizer, &thinker.ids, ids);
        let top = |list: &[(u32, f64)], name: &str| -> Vec<Value> {
            list.iter()
                .map(|(id, x)| json!({ "token_id": id, "token": tokenizer.piece(*id).text, name: x }))
                .collect()
        };
        let thought = |t: &Thought| {
            let lens = |l: &LensRead| json!({ "lens": l.lens, "horizon": l.horizon, "top": top(&l.read.top, "probability"), "entropy": l.read.entropy });
            json!({
                "step": t.step,
                "norm": t.norm,
                "norm_percentile": t.percentile,
                "nearest": top(&t.nearest, "cosine"),
                "cosine_previous": t.previous,
                "greedy": { "token_id": t.greedy.0, "token": tokenizer.piece(t.greedy.0).text, "cosine": t.greedy.1 },
                "lenses": t.lenses.iter().map(lens).collect::<Vec<_>>(),
                "after": { "top": top(&t.after.top, "probability"), "entropy": t.after.entropy },
            })
        };
        let one = |(i, thinker): (usize, &Thinker)| -> Result<Value, Failure> {
            let effect = |e: &Effect| -> Result<Value, Failure> {
                let said = e.answer.as_ref().map(|ids| words(thinker, ids)).transpose()?;
                Ok(json!({ "replacement": e.case.to_string(), "kl": e.kl, "agrees": e.agrees,
                           "surprisal_increase": e.surprisal_increase, "kl_answer": e.kl_answer,
                           "token_ids": e.answer, "generated": said }))
            };
            Ok(json!({
                "prompt": thinker.prompt,
                "text": job.prompts[i].text,
                "prompt_ids": thinker.ids,
                "token_ids": thinker.answer,
                "generated": words(thinker, &thinker.answer)?,
                "ended": self.ended[i],
                "thoughts": self.thoughts[i].iter().map(thought).collect::<Vec<_>>(),
                "replaced": self.effects[i].iter().map(effect).collect::<Result<Vec<_>, _>>()?,
                "other": self.others[i],
            }))
        };
        self.thinkers.iter().enumerate().map(one).collect()
    }
}
