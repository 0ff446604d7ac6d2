//! Free running: the network goes on from a transplant by itself.

use tch::{Kind, Tensor};

use super::{FutureError, Prompt, transplant_at};
use crate::model::Model;

/// One step of a continuation, a row per state.
#[derive(Debug)]
pub struct Step {
    /// What leaves the last block, before the final norm: `[rows, d_model]`.
    pub state: Tensor,
    /// The likeliest token, `[rows, 1]`, i64.
    pub token: Tensor,
    /// Its probability, `[rows, 1]`.
    pub probability: Tensor,
}

/// Puts `state [rows, d_model]` into a prompt's last position at `layer` and lets the network go on: [`free_at`].
///
/// # Errors
/// As [`transplant_at`].
pub fn free(
    model: &Model,
    vocab: usize,
    prompt: &Prompt,
    layer: usize,
    state: &Tensor,
    steps: usize,
    batch_tokens: usize,
) -> Result<Vec<Step>, FutureError> {
    free_at(model, vocab, (prompt, &[prompt.tokens() - 1]), layer, state, steps, batch_tokens)
}

/// Puts `state [rows, d_model]` into a prompt at `places` and `layer` and lets the network go on greedily by `steps`
/// tokens out of the first `vocab`, in passes of about `batch_tokens`. Without a cache: every pass runs the prompt anew
/// and applies the transplant anew.
///
/// # Errors
/// As [`transplant_at`].
pub fn free_at(
    model: &Model,
    vocab: usize,
    (prompt, places): (&Prompt, &[i64]),
    layer: usize,
    state: &Tensor,
    steps: usize,
    batch_tokens: usize,
) -> Result<Vec<Step>, FutureError> {
    let _no_grad = tch::no_grad_guard();
    let rows = state.size()[0];
    let at_once = (batch_tokens as i64 / (prompt.tokens() + steps as i64)).max(1);
    let mut parts: Vec<Vec<Step>> = (0..steps).map(|_| Vec::new()).collect();
    for start in (0..rows).step_by(at_once as usize) {
        let part = state.narrow(0, start, at_once.min(rows - start));
        let mut fed = Tensor::zeros([part.size()[0], 0], (Kind::Int64, model.device()));
        for (step, all) in parts.iter_mut().enumerate() {
            let state =
                transplant_at(model, prompt, places, layer, Some(&part), &fed)?.select(1, step as i64);
            let logits = model.unembed().logits(&state)?.narrow(-1, 0, vocab as i64);
            let (probability, token) = logits.f_softmax(-1, Kind::Float)?.f_max_dim(-1, true)?;
            fed = Tensor::f_cat(&[&fed, &token], 1)?;
            all.push(Step { state, token, probability });
        }
    }
    let cat = |all: &[Step], of: &dyn Fn(&Step) -> &Tensor| {
        Tensor::f_cat(&all.iter().map(of).collect::<Vec<_>>(), 0)
    };
    let whole = |all: &Vec<Step>| {
        let (state, token) = (cat(all, &|s| &s.state)?, cat(all, &|s| &s.token)?);
        Ok(Step { state, token, probability: cat(all, &|s| &s.probability)? })
    };
    parts.iter().map(whole).collect()
}
