//! Which rows of the Jacobian a prompt computes.

use crate::results::draw::permutation;

/// The rows of `J` that each prompt computes: all, or blocks of as many in turn, in an order that is drawn once, so
/// that every row is a mean over as many prompts as any other, give or take one.
///
/// At equal cost a block of every prompt is as good as all rows of fewer prompts in each row's own error, and sees more
/// of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    order: Vec<usize>,
    per_prompt: usize,
}

impl Rows {
    /// Of `d_model` rows, `per_prompt` at most.
    pub fn new(d_model: usize, per_prompt: Option<usize>, seed: u64) -> Self {
        let per_prompt = per_prompt.map_or(d_model, |rows| rows.clamp(1, d_model));
        let order = if per_prompt == d_model { (0..d_model).collect() } else { permutation(seed, d_model) };
        Self { order, per_prompt }
    }

    /// Those of the prompt with this number, from 0.
    pub fn of(&self, prompt: usize) -> Vec<usize> {
        let d = self.order.len();
        (0..self.per_prompt).map(|i| self.order[(prompt * self.per_prompt + i) % d]).collect()
    }

    /// Rows there are.
    pub fn d_model(&self) -> usize {
        self.order.len()
    }

    /// Rows a prompt computes.
    pub fn per_prompt(&self) -> usize {
        self.per_prompt
    }

    /// Prompts after which every row was computed twice, which is what an error needs.
    pub fn least_prompts(&self) -> usize {
        (2 * self.order.len()).div_ceil(self.per_prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_balanced() {
        let rows = Rows::new(10, Some(4), 3);
        let mut counts = [0; 10];
        for prompt in 0..rows.least_prompts() {
            let own = rows.of(prompt);
            assert_eq!(own.len(), 4);
            for row in own {
                counts[row] += 1;
            }
        }
        assert_eq!((rows.least_prompts(), counts), (5, [2; 10]));
        assert_ne!(rows, Rows::new(10, Some(4), 4));
    }

    #[test]
    fn all_rows_are_all_rows() {
        for per_prompt in [None, Some(6), Some(99)] {
            let rows = Rows::new(6, per_prompt, 0);
            assert_eq!((rows.of(5), rows.least_prompts()), (vec![0, 1, 2, 3, 4, 5], 2));
        }
    }
}
