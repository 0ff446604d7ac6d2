//! The lens table for machines.

use layerscope::{lenses::stats::Readings, text::Tokenizer, trajectory::Trajectory};
use serde_json::{Value, json};

use super::Prompt;
use crate::cli::session::Session;

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

/// The prompt, what was decided about it, and every lens.
pub(super) fn result(
    session: &Session,
    tokenizer: &Tokenizer,
    prompt: &Prompt,
    read: &[Trajectory],
) -> Value {
    let tokens = prompt.ids.iter().zip(&prompt.tokens).enumerate();
    let bos = tokenizer.bos();
    json!({
        "model": session.name(),
        "n_layers": session.spec.n_layers,
        "unit": "nats",
        "bos": { "id": bos.id, "token": bos.token, "reason": bos.reason },
        "tokens": tokens.map(|(pos, (id, token))| json!({
            "pos": pos, "id": id, "token": token.text, "raw": token.raw,
        })).collect::<Vec<_>>(),
        "lenses": read.iter().map(|t| lens(t, tokenizer)).collect::<Vec<_>>(),
    })
}
