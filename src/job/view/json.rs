//! The lens table for machines.

use serde_json::{Value, json};

use super::{Prompt, Readings as Read, View, Viewed};
use crate::{
    intervene::future::GridCell, job::shown, lens::trajectory::Trajectory, lenses::stats::Readings,
    sources::text::Tokenizer,
};

impl View {
    /// What was read, for programs; of a view into files, where they are.
    pub fn json(&self, found: &Viewed) -> Value {
        match found.readings {
            Read::Saved => {
                let [html, out, kit] =
                    [&self.html, &self.out, &self.logitlenskit].map(|path| path.as_ref().map(shown));
                json!({ "html": html, "out": out, "logitlenskit": kit })
            }
            _ => found.json(),
        }
    }
}

/// One lens: every layer, every position. Logarithms are natural (nats), ranks count from 0.
fn lens(trajectory: &Trajectory, tokenizer: &Tokenizer) -> Value {
    let layers = trajectory.layers.iter().zip(&trajectory.readings);
    json!({
        "lens": trajectory.lens,
        "depth": trajectory.depth().iter().map(|layer| layer.0).collect::<Vec<_>>(),
        "layers": layers.map(|(layer, r)| json!({
            "layer": layer.0,
            "positions": (0..r.entropy.len()).map(|i| cell(r, i, tokenizer)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn cell(r: &Readings, i: usize, tokenizer: &Tokenizer) -> Value {
    let top = r.top_ids[i].iter().zip(&r.top_probs[i]);
    json!({
        "pos": i,
        "top": top.map(|(&id, prob)| json!({
            "id": id, "token": tokenizer.piece(id as u32).text, "prob": prob,
        })).collect::<Vec<_>>(),
        "prob": r.top_probs[i].first(),
        "prob_of_final": r.prob_of_final[i],
        "rank_of_final": r.rank_of_final[i],
        "rank_of_true": r.rank_of_true[i],
        "entropy": r.entropy[i],
        "kl": r.kl[i],
        "ce": r.ce[i],
    })
}

/// The model's own mean cross-entropy, nats, and over how many tokens: what the last layer says of every next token.
pub fn loss(trajectory: &Trajectory, n_layers: usize) -> Option<(f64, usize)> {
    let last = trajectory.layers.iter().position(|layer| layer.0 == n_layers)?;
    let ce: Vec<f64> = trajectory.readings[last].ce.iter().flatten().copied().collect();
    (!ce.is_empty()).then(|| (ce.iter().sum::<f64>() / ce.len() as f64, ce.len()))
}

/// What is said of the model, once, and every prompt. Of one prompt its keys are at the top too.
fn whole(prompts: Vec<Value>) -> Value {
    let mut result = match &prompts[..] {
        [only] => only.clone(),
        _ => Value::Object(serde_json::Map::new()),
    };
    for key in ["model", "n_layers", "unit", "bos"] {
        if let Some(value) = prompts.first().and_then(|first| first.get(key)) {
            result[key] = value.clone();
        }
    }
    result["prompts"] = Value::from(prompts);
    result
}

/// The prompt, what was decided about it, and every lens.
fn prompt(found: &Viewed, prompt: &Prompt, read: &[Trajectory]) -> Value {
    let tokenizer = &found.tokenizer;
    let tokens = prompt.ids.iter().zip(&prompt.tokens).enumerate();
    let bos = tokenizer.bos();
    json!({
        "model": found.model,
        "n_layers": found.n_layers,
        "unit": "nats",
        "text": prompt.text,
        "loss": read.iter().find_map(|t| loss(t, found.n_layers)).map(|(loss, _)| loss),
        "bos": { "id": bos.id, "token": bos.token, "reason": bos.reason },
        "tokens": tokens.map(|(pos, (id, token))| json!({
            "pos": pos, "id": id, "token": token.text, "raw": token.raw,
        })).collect::<Vec<_>>(),
        "lenses": read.iter().map(|t| lens(t, tokenizer)).collect::<Vec<_>>(),
    })
}

/// What every state of a prompt goes on to say.
fn grid(tokenizer: &Tokenizer, prompt: &Prompt, rows: &[(usize, Vec<GridCell>)]) -> Value {
    let piece = |id: &i64| tokenizer.piece(*id as u32).shown;
    let cell = |cell: &GridCell| {
        json!({ "token_ids": cell.tokens, "tokens": cell.tokens.iter().map(piece).collect::<Vec<_>>(),
                "probabilities": cell.probabilities })
    };
    let row = |(layer, cells): &(usize, Vec<GridCell>)| json!({ "layer": layer, "cells": cells.iter().map(cell).collect::<Vec<_>>() });
    json!({
        "text": prompt.text,
        "token_ids": prompt.ids,
        "tokens": prompt.tokens.iter().map(|t| t.shown.clone()).collect::<Vec<_>>(),
        "grid": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

impl Viewed {
    /// Everything that was read, for programs: per prompt its tokens, and every lens by layer and position, or the grid
    /// of a lens of learned prompts. Of one prompt its keys are at the top too.
    pub fn json(&self) -> Value {
        let prompts = self.prompts.iter();
        whole(match &self.readings {
            Read::Trajectories(all) => prompts.zip(all).map(|(one, read)| prompt(self, one, read)).collect(),
            Read::Grids(all) => {
                prompts.zip(all).map(|(one, rows)| grid(&self.tokenizer, one, rows)).collect()
            }
            Read::Saved => Vec::new(),
        })
    }
}
