//! What generation says step by step, and how far edits move it from the model left alone.

use layerscope_lenses::stats::readings;
use tch::Tensor;

use super::{GenerateError, Generated, Prompt};
use crate::{
    model::{Model, ModelError},
    results::run::{MetricRow, RowKind},
    results::statistics::{Estimate, Intervals, Tally},
};

/// One entry per new token of one prompt. Nats.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Entropy of the prediction it was chosen from.
    pub entropy: Vec<f64>,
    /// `-log p` of the token, under the prediction it was chosen from.
    pub ce: Vec<f64>,
    /// `-log p` of the token under the model left alone, on the same tokens.
    pub surprisal: Vec<f64>,
    /// KL(model left alone ‖ prediction it was chosen from), on the same tokens.
    pub kl: Vec<f64>,
}

/// Runs the model over the prompt and what it became, without edits, and compares.
///
/// # Errors
/// When the logits of `generated` were not kept, or the model cannot run.
pub fn measure(model: &Model, prompt: &Prompt, generated: &Generated) -> Result<Measured, GenerateError> {
    let missing = || ModelError::Input("the logits of every step must be kept to be measured".into());
    let own = generated.logits.as_ref().ok_or_else(missing)?;
    let read = &generated.tokens[..generated.tokens.len().saturating_sub(1)]; // the last token is not read
    let ids: Vec<i64> = prompt.ids.iter().chain(read).map(|id| i64::from(*id)).collect();
    let alone = model.forward(&Tensor::from_slice(&ids).view([1, -1]), &mut ())?;
    let (steps, vocab) = own.size2()?;
    let first = prompt.ids.len() as i64 - 1;
    let alone = alone.ok_or(GenerateError::Ended)?.f_select(0, 0)?;
    let alone = alone.f_narrow(0, first, steps)?.f_narrow(1, 0, vocab)?.f_to_device(own.device())?;
    let next: Vec<i64> = generated.tokens.iter().map(|id| i64::from(*id)).collect();
    let said = readings(own, &alone, &next, 1)?;
    let surprisal = readings(&alone, &alone, &next, 1)?.ce.into_iter().flatten().collect();
    Ok(Measured {
        entropy: said.entropy,
        ce: said.ce.into_iter().flatten().collect(),
        surprisal,
        kl: said.kl,
    })
}

/// Means over prompts by step (`horizon` 1 is the first new token), with intervals over prompts where there are
/// several; prompts that have ended are left out. `ce` and `kl` only where something was `edited`.
///
/// # Errors
/// When a number is not finite.
pub fn metric_rows(
    measured: &[Measured],
    edited: bool,
    n_layers: usize,
    intervals: Intervals,
) -> Result<Vec<MetricRow>, GenerateError> {
    const NAMES: [&str; 4] = ["entropy", "surprisal", "ce", "kl"];
    let shown = if edited { 4 } else { 2 };
    let steps = measured.iter().map(|m| m.entropy.len()).max().unwrap_or(0);
    let groups = (0..steps).flat_map(|step| [step; NAMES.len()]).collect();
    let mut tally = Tally::new(groups, steps, intervals)?;
    for (prompt, m) in measured.iter().enumerate() {
        let of = |step: usize| [&m.entropy, &m.surprisal, &m.ce, &m.kl].map(|x| x.get(step).copied());
        let sums: Vec<f64> = (0..steps).flat_map(of).map(|x| x.unwrap_or(0.0)).collect();
        let counts: Vec<f64> = (0..steps).map(|step| f64::from(u8::from(step < m.entropy.len()))).collect();
        tally.add(prompt as u64, &sums, &counts)?;
    }
    let scores = tally.scores();
    let row = |(step, i): (usize, usize)| {
        let number: Estimate = scores.estimate(step * NAMES.len() + i);
        MetricRow {
            subject: "generate".into(),
            kind: RowKind::Generate,
            hook: "logits".into(),
            layer: n_layers as i32,
            horizon: step as i32 + 1,
            ..MetricRow::of(NAMES[i], "nats", number)
        }
    };
    Ok((0..steps).flat_map(|step| (0..shown).map(move |i| (step, i))).map(row).collect())
}
