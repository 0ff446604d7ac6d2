//! Keys and values of the tokens a model has seen, so that a pass need only compute the new ones.

use tch::Tensor;

use super::ModelError;

/// What attention keeps of a sequence: per run of a block its keys (after QK-norm and rotation) and values, as taps
/// left them.
///
/// Blocks are counted as they run, so a block that a [`Schedule`](super::Schedule) runs twice has two entries. A pass
/// that fails or is stopped by its tap leaves the cache as it was.
#[derive(Debug, Default)]
pub struct Cache {
    /// `k, v [batch, positions or more, kv_head, d_head]`.
    runs: Vec<[Tensor; 2]>,
    positions: usize,
    batch: i64,
}

impl Cache {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many positions of every row have been seen; the next token is at this one.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Forgets all but the first `positions`.
    pub fn truncate(&mut self, positions: usize) {
        self.positions = self.positions.min(positions);
    }

    /// Fails unless `batch` rows can follow what is kept.
    pub(super) fn check(&self, batch: i64) -> Result<(), ModelError> {
        if self.positions == 0 || self.batch == batch {
            return Ok(());
        }
        Err(ModelError::Input(format!("{batch} rows cannot follow the {} rows of the cache", self.batch)))
    }

    /// Adds the keys and values `[batch, seq, kv_head, d_head]` of the `run`-th block of this pass, and returns all.
    pub(super) fn extend(&mut self, run: usize, k: Tensor, v: Tensor) -> Result<[Tensor; 2], ModelError> {
        let all = match self.runs.get(run) {
            Some(kept) if self.positions > 0 => {
                let join = |kept: &Tensor, new: Tensor| {
                    Tensor::f_cat(&[kept.f_narrow(1, 0, self.positions as i64)?, new], 1)
                };
                [join(&kept[0], k)?, join(&kept[1], v)?]
            }
            None if self.positions > 0 => {
                return Err(ModelError::Input("the cache was made with a shorter schedule of blocks".into()));
            }
            // Keys and values are views of one larger tensor, which need not stay.
            _ => [k.f_contiguous()?, v.f_contiguous()?],
        };
        let kept = all.each_ref().map(Tensor::shallow_clone);
        if run < self.runs.len() {
            self.runs[run] = kept;
        } else {
            self.runs.push(kept);
        }
        Ok(all)
    }

    /// The pass over `seq` more positions of `batch` rows is done.
    pub(super) fn advance(&mut self, batch: i64, seq: i64) {
        (self.batch, self.positions) = (batch, self.positions + seq as usize);
    }
}
