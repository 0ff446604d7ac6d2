//! Learned prompts: gradients through the frozen network, on the prompt alone.

use tch::{Kind, Tensor};

use super::{FutureError, Prompt, Recipe, Sources, sources::rows_of, transplant};
use crate::{
    intervene::adamw::AdamW,
    model::{Model, wide},
    results::draw::draw,
    watch::Underway,
};

/// Which prompt: one per layer and horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PromptCell {
    /// The layer whose state goes in.
    pub layer: usize,
    /// The horizon it is trained for.
    pub horizon: usize,
}

/// A trained prompt.
#[derive(Debug)]
pub struct Trained {
    /// `[M, d_model]`, f32 on the CPU.
    pub prompt: Tensor,
    /// Steps made; 0 where nothing that a prompt does reaches the prediction (the last layer at horizon 1).
    pub steps: usize,
    /// Mean KL(model ‖ prompted) of the held-out contexts before training, nats.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// Contexts of a pass when nothing is trained.
const AT_ONCE: usize = 128;

/// Mean over rows of `KL(p ‖ q)` in nats, of last-layer states `[rows, d_model]` before the final norm, over the first
/// `vocab` tokens. Differentiable in `q`.
///
/// # Errors
/// When shapes do not fit.
pub fn kl(model: &Model, vocab: usize, p: &Tensor, q: &Tensor) -> Result<Tensor, FutureError> {
    let log = |x: &Tensor| -> Result<Tensor, FutureError> {
        let logits = model.unembed().logits(x)?.f_narrow(-1, 0, vocab as i64)?;
        let kind = wide(logits.kind());
        Ok(logits.f_log_softmax(-1, kind)?)
    };
    let (p, q) = (log(p)?, log(q)?);
    Ok((p.f_exp()? * (&p - q)).f_sum_dim_intlist(-1, false, None::<Kind>)?.f_mean(None::<Kind>)?)
}

/// The KL of `rows` of the sources under a prompt.
fn loss(
    model: &Model,
    vocab: usize,
    sources: &Sources,
    rows: &[i64],
    cell: PromptCell,
    prompt: &Prompt,
) -> Result<Tensor, FutureError> {
    let last = model.spec().n_layers;
    let states = sources.states.get(&cell.layer).ok_or(FutureError::NoLayer { layer: cell.layer, last })?;
    let state = rows_of(states, rows)?;
    let fed = rows_of(&sources.fed(cell.horizon), rows)?;
    let out = transplant(model, prompt, cell.layer, Some(&state), &fed)?;
    let q = out.select(1, cell.horizon as i64 - 1);
    kl(model, vocab, &rows_of(&sources.last[cell.horizon - 1], rows)?, &q)
}

/// The mean KL of all sources under a prompt.
fn held_out(
    model: &Model,
    vocab: usize,
    sources: &Sources,
    cell: PromptCell,
    prompt: &Tensor,
) -> Result<f64, FutureError> {
    let _no_grad = tch::no_grad_guard();
    let prompt = Prompt::Soft(prompt.shallow_clone());
    let all: Vec<i64> = (0..sources.rows() as i64).collect();
    let mut sum = 0.0;
    for rows in all.chunks(AT_ONCE) {
        sum += loss(model, vocab, sources, rows, cell, &prompt)?.double_value(&[]) * rows.len() as f64;
    }
    let mean = sum / all.len() as f64;
    let PromptCell { layer, horizon } = cell;
    if mean.is_finite() { Ok(mean) } else { Err(FutureError::NotFinite { what: "the loss", layer, horizon }) }
}

/// Trains the prompt of one cell on `sources` and measures it on `held`, contexts of other documents. What comes out
/// depends on the seed, the cell and the sources alone. `stage` counts steps.
///
/// # Errors
/// [`FutureError::Interrupted`], a loss that is not finite, or what the network says.
pub fn train(
    model: &Model,
    vocab: usize,
    (sources, held): (&Sources, &Sources),
    cell: PromptCell,
    recipe: &Recipe,
    seed: u64,
    stage: &Underway<'_>,
) -> Result<Trained, FutureError> {
    let PromptCell { layer, horizon } = cell;
    let begin = recipe.init(model.spec().d_model, (layer, horizon), seed);
    let mut prompt = begin.to_device(model.device()).to_kind(wide(model.kind()));
    let before = held_out(model, vocab, held, cell, &prompt)?;
    let mut optimizer = AdamW::new(recipe.rate, recipe.decay, &prompt);
    let mut steps = 0;
    // At the last layer's own position the state alone decides.
    let reaches = layer < model.spec().n_layers || horizon > 1;
    for epoch in 0..if reaches { recipe.epochs } else { 0 } {
        let mut order: Vec<i64> = (0..sources.rows() as i64).collect();
        let key = draw(seed, layer as u64, horizon as u64);
        order.sort_by_key(|i| (draw(key, 1 + epoch as u64, *i as u64), *i));
        for rows in order.chunks(recipe.batch) {
            let (loss, gradient) = gradient(model, vocab, sources, rows, cell, &prompt)?;
            if !loss.is_finite() {
                return Err(FutureError::NotFinite { what: "the loss", layer, horizon });
            }
            prompt = tch::no_grad(|| optimizer.step(&prompt, &gradient))?;
            steps += 1;
            stage.say(format!("loss {loss:.3}"));
            stage.done(1)?;
        }
    }
    let after = if steps > 0 { held_out(model, vocab, held, cell, &prompt)? } else { before };
    Ok(Trained { prompt: prompt.to_kind(Kind::Float).to_device(tch::Device::Cpu), steps, before, after })
}

/// The loss of `rows` and its gradient in the prompt.
fn gradient(
    model: &Model,
    vocab: usize,
    sources: &Sources,
    rows: &[i64],
    cell: PromptCell,
    prompt: &Tensor,
) -> Result<(f64, Tensor), FutureError> {
    tch::with_grad(|| {
        let leaf = prompt.detach().set_requires_grad(true);
        let loss = loss(model, vocab, sources, rows, cell, &Prompt::Soft(leaf.shallow_clone()))?;
        let mut found = Tensor::f_run_backward(&[&loss], &[&leaf], false, false)?;
        Ok((loss.double_value(&[]), found.remove(0)))
    })
}

#[cfg(test)]
mod tests;
