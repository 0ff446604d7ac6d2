//! Which blocks run, in which order: the model's own order, or one that skips, repeats, swaps or runs some side by
//! side.

use std::fmt;

use super::ModelError;

/// How blocks that run side by side on one input become one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Combine {
    /// The mean of their outputs (Sun et al. 2024, "Transformer Layers as Painters").
    Mean,
    /// The input plus everything that each of them adds to it.
    Sum,
}

/// One step of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A block on what the step before left.
    Block(usize),
    /// Several blocks, each on what the step before left.
    Parallel(Vec<usize>, Combine),
}

/// The steps from the embeddings to the final norm. A block may come often or not at all; its hooks fire each time,
/// with its own number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schedule {
    steps: Vec<Step>,
    n_layers: usize,
}

impl Schedule {
    /// The model as it is: blocks `0..n_layers` in order.
    pub fn identity(n_layers: usize) -> Self {
        Self { steps: (0..n_layers).map(Step::Block).collect(), n_layers }
    }

    /// These steps, for a model of `n_layers` blocks.
    ///
    /// # Errors
    /// When a block does not exist, or nothing runs side by side in a parallel step.
    pub fn new(steps: Vec<Step>, n_layers: usize) -> Result<Self, ModelError> {
        let all = || steps.iter().flat_map(Step::blocks);
        if let Some(block) = all().find(|block| **block >= n_layers) {
            let last = n_layers.saturating_sub(1);
            return Err(ModelError::Input(format!(
                "schedule: no block {block}; this model's blocks are 0 to {last}"
            )));
        }
        if steps.iter().any(|step| step.blocks().is_empty()) {
            return Err(ModelError::Input("schedule: a parallel step without a block".into()));
        }
        Ok(Self { steps, n_layers })
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every block in the order it runs.
    pub fn blocks(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().flat_map(|step| step.blocks().iter().copied())
    }

    /// Whether this is the model as it is.
    pub fn is_identity(&self) -> bool {
        self.steps.len() == self.n_layers
            && self.steps.iter().enumerate().all(|(i, step)| *step == Step::Block(i))
    }

    /// The block that does not run, where all others run as they do in the model.
    pub fn left_out(&self) -> Option<usize> {
        let is_all_but = |out: &usize| {
            let others = (0..self.n_layers).filter(|block| block != out).map(Step::Block);
            others.eq(self.steps.iter().cloned())
        };
        (0..self.n_layers).find(is_all_but)
    }

    /// Blocks of the model this was made for.
    pub(super) fn n_layers(&self) -> usize {
        self.n_layers
    }
}

impl Step {
    /// The blocks that run in it.
    pub fn blocks(&self) -> &[usize] {
        match self {
            Self::Block(block) => std::slice::from_ref(block),
            Self::Parallel(blocks, _) => blocks,
        }
    }
}

/// In the grammar of `--schedule`: `0,1,[2|3|4],5`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("none");
        }
        for (i, step) in self.steps.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match step {
                Step::Block(block) => write!(f, "{comma}{block}")?,
                Step::Parallel(blocks, combine) => {
                    let names: Vec<String> = blocks.iter().map(ToString::to_string).collect();
                    let sum = if *combine == Combine::Sum { "+" } else { "" };
                    write!(f, "{comma}[{}]{sum}", names.join("|"))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_left_out_where_the_others_run_as_they_do() {
        let left_out = |steps: Vec<Step>| Schedule::new(steps, 4).unwrap().left_out();
        let blocks = |blocks: &[usize]| blocks.iter().copied().map(Step::Block).collect::<Vec<_>>();
        assert_eq!(left_out(blocks(&[0, 1, 3])), Some(2));
        assert_eq!(left_out(blocks(&[0, 1, 2])), Some(3));
        for other in [&[0, 1, 2, 3][..], &[0, 3], &[0, 3, 1]] {
            assert_eq!(left_out(blocks(other)), None, "{other:?}");
        }
        // Side by side is another order.
        assert_eq!(left_out(vec![Step::Block(0), Step::Parallel(vec![1, 3], Combine::Mean)]), None);
    }
}
