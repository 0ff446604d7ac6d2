//! The Future Lens grid: what every state of a prompt goes on to say by itself.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{FutureError, Prompt, free};
use crate::{
    hook::{Capture, HookPoint},
    model::{Model, ModelError},
    states::check_prompt,
};

/// What one state says, one entry per token.
#[derive(Debug, Clone, PartialEq)]
pub struct GridCell {
    /// The next token by the logit lens, then the tokens after it by the prompt, free-running.
    pub tokens: Vec<i64>,
    /// Their probabilities.
    pub probabilities: Vec<f64>,
}

impl GridCell {
    /// What colours the cell: the mean probability.
    pub fn mean(&self) -> f64 {
        self.probabilities.iter().sum::<f64>() / self.probabilities.len().max(1) as f64
    }
}

/// `tokens` tokens for every layer that has a prompt (rows, ascending) and every position of `ids` (columns), as in the
/// Future Lens demonstration: the first token is the logit lens's, the others are what the network goes on with when
/// the state stands in the prompt, after a first token of its own that is not shown. Tokens are of the first `vocab`.
///
/// # Errors
/// As [`free`].
pub fn grid(
    model: &Model,
    vocab: usize,
    ids: &[u32],
    prompts: &BTreeMap<usize, Prompt>,
    tokens: usize,
    batch_tokens: usize,
) -> Result<Vec<(usize, Vec<GridCell>)>, FutureError> {
    let _no_grad = tch::no_grad_guard();
    let mut capture = Capture::new(prompts.keys().map(|l| HookPoint::resid_pre(*l)).collect());
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let _none = model.forward(&Tensor::from_slice(&ids).view([1, -1]), &mut capture)?;
    let mut rows = Vec::new();
    for (&layer, prompt) in prompts {
        let absent = || ModelError::Input(format!("layer {layer} was not computed"));
        let states = capture.get(HookPoint::resid_pre(layer)).ok_or_else(absent)?.select(0, 0);
        check_prompt(&states, HookPoint::resid_pre(layer))?;
        let logits = model.unembed().logits(&states)?.narrow(-1, 0, vocab as i64);
        let (probability, token) = logits.f_softmax(-1, Kind::Float)?.f_max_dim(-1, true)?;
        let said = free(model, vocab, prompt, layer, &states, tokens, batch_tokens)?;
        let cell = |row: i64| {
            let later = said.iter().skip(1).map(|s| (&s.token, &s.probability));
            let all = std::iter::once((&token, &probability)).chain(later);
            let (tokens, probabilities) =
                all.map(|(t, p)| (t.int64_value(&[row, 0]), p.double_value(&[row, 0]))).unzip();
            GridCell { tokens, probabilities }
        };
        rows.push((layer, (0..ids.len() as i64).map(cell).collect()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;

    /// The last layer's next token is the model's, at every position; and a cell is what `free` says of that state
    /// alone.
    #[test]
    fn cells_are_the_models_own_at_the_last_layer() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpt2-alice-8l");
        let model = Model::load(&dir, Kind::Double, Device::Cpu, |_, _| ()).unwrap();
        let ids = [0u32, 300, 400, 500];
        let words = || Prompt::Words(Tensor::from_slice(&[10i64, 11, 12]));
        let prompts = BTreeMap::from([(3, words()), (8, words())]);
        let grid = grid(&model, 4000, &ids, &prompts, 3, 8).unwrap();
        assert_eq!(grid.iter().map(|(layer, row)| (*layer, row.len())).collect::<Vec<_>>(), [(3, 4), (8, 4)]);
        let ids = Tensor::from_slice(&[0i64, 300, 400, 500]).view([1, 4]);
        let logits = model.forward(&ids, &mut ()).unwrap().unwrap().narrow(-1, 0, 4000);
        let top = Vec::<i64>::try_from(logits.argmax(-1, false).view([-1])).unwrap();
        assert_eq!(grid[1].1.iter().map(|c| c.tokens[0]).collect::<Vec<_>>(), top);
        for cell in grid.iter().flat_map(|(_, row)| row) {
            assert_eq!((cell.tokens.len(), cell.probabilities.len()), (3, 3));
            assert!(cell.probabilities.iter().all(|p| *p > 0.0 && *p <= 1.0));
            assert!((cell.mean() - cell.probabilities.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        }
    }
}
