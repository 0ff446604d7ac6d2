//! How a soft prompt is trained.

use tch::Tensor;

use crate::results::draw::{draw, normal};

/// Settings of a soft prompt's training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Tokens of the prompt, M.
    pub tokens: usize,
    /// Standard deviation of its entries at the beginning.
    pub init_std: f64,
    /// `AdamW`'s rate.
    pub rate: f64,
    /// `AdamW`'s weight decay, decoupled.
    pub decay: f64,
    /// Contexts of a step.
    pub batch: usize,
    /// Times through the contexts.
    pub epochs: usize,
}

impl Default for Recipe {
    /// The paper's (10 tokens, N(0, 0.02²), decay 1e-5, batches of 8, one epoch) but for the rate: its 5e-4 is for 1250
    /// steps of a large model; small ones get further with 5e-3 in 300 steps (held-out KL 1.07 against 1.19; see
    /// `docs/future.md`).
    fn default() -> Self {
        Self { tokens: 10, init_std: 0.02, rate: 5e-3, decay: 1e-5, batch: 8, epochs: 1 }
    }
}

impl Recipe {
    /// Where the prompt `[tokens, d_model]` of a cell begins, f32 on the CPU: normal numbers drawn from (seed, layer,
    /// horizon).
    pub fn init(&self, d_model: usize, (layer, horizon): (usize, usize), seed: u64) -> Tensor {
        let key = draw(seed, layer as u64, horizon as u64);
        let n = (self.tokens * d_model) as u64;
        let numbers: Vec<f32> = (0..n).map(|i| (self.init_std * normal(key, 0, i)) as f32).collect();
        Tensor::from_slice(&numbers).view([self.tokens as i64, d_model as i64])
    }

    /// Steps over `rows` contexts.
    pub fn steps(&self, rows: usize) -> usize {
        self.epochs * rows.div_ceil(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn the_beginning_is_normal_and_its_own_for_every_cell() {
        let recipe = Recipe { tokens: 100, init_std: 0.5, ..Recipe::default() };
        let a = recipe.init(400, (3, 2), 1);
        assert_eq!(a.size(), [100, 400]);
        assert!((a.std(true).double_value(&[]) - 0.5).abs() < 0.01);
        assert!(a.mean(Kind::Float).double_value(&[]).abs() < 0.01);
        assert!(a.equal(&recipe.init(400, (3, 2), 1)));
        assert!(!a.equal(&recipe.init(400, (2, 3), 1)) && !a.equal(&recipe.init(400, (3, 2), 2)));
    }
}
