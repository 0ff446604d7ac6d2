//! What makes a bf16 sweep good: the largest logits of every row once more in f32, in every sum.

use tch::Tensor;

use super::{
    block::{Block, Row},
    kernel,
};
use crate::Error;

/// How many logits are computed again in f32 after a bf16 sweep.
const TOP: usize = 16;

/// The largest logits of a row so far, in descending order.
#[derive(Clone, Copy)]
pub(super) struct Top {
    values: [f32; TOP],
    ids: [i64; TOP],
}

impl Default for Top {
    fn default() -> Self {
        Self { values: [f32::NEG_INFINITY; TOP], ids: [-1; TOP] }
    }
}

impl Top {
    /// Takes in the logits `z` of the tokens from `first` on, whose largest is `max`.
    pub(super) fn take(&mut self, z: &[f32], first: i64, max: f32) {
        if max <= self.values[TOP - 1] {
            return;
        }
        for (id, &value) in (first..).zip(z) {
            if value > self.values[TOP - 1] {
                let place = self.values.iter().position(|v| value > *v).unwrap_or(TOP - 1);
                self.values[place..].rotate_right(1);
                self.ids[place..].rotate_right(1);
                (self.values[place], self.ids[place]) = (value, id);
            }
        }
    }
}

/// What a correction did to one term, relative to its row's final reference.
pub(super) struct Change {
    pub(super) row: usize,
    pub(super) id: usize,
    pub(super) term: f64,
}

impl Block<'_> {
    /// Puts f32 logits in the place of the largest bf16 ones, in every sum; says how the terms changed.
    pub(super) fn correct(
        &self,
        top: &[Top],
        state: &mut [Row],
        ranks: &mut [Vec<i64>],
        e: Option<&mut Tensor>,
    ) -> Result<Vec<Change>, Error> {
        let (rows, k) = (top.len() as i64, TOP as i64);
        let ids: Vec<i64> = top.iter().flat_map(|t| t.ids.map(|id| id.max(0))).collect();
        let ids = Tensor::from_slice(&ids);
        let weights = self.weight.f_index_select(0, &ids)?.f_view([rows, k, -1])?;
        let exact = weights.f_matmul(&self.n.f_unsqueeze(-1)?)?.f_view([-1])?;
        let exact = Vec::<f32>::try_from(exact)?;
        let mut changes = Vec::new();
        let mut slopes = vec![0f32; exact.len()];
        for (i, (top, row)) in top.iter().zip(state).enumerate() {
            row.best = f32::NEG_INFINITY;
            for (j, (&id, &old)) in
                top.ids.iter().zip(&top.values).enumerate().filter(|(_, (id, _))| **id >= 0)
            {
                let mut new = [exact[i * TOP + j]];
                if !self.bias.is_empty() {
                    new[0] += self.bias[id as usize];
                }
                if let Some(cap) = self.cap {
                    kernel::cap(&mut new, cap);
                }
                let new = new[0];
                let term = |z: f32| f64::from(z - row.reference).exp();
                let slope = |z: f32| self.cap.map_or(1.0, |cap| 1.0 - (z / cap).powi(2));
                row.sum += term(new) - term(old);
                row.zsum += term(new) * f64::from(new) - term(old) * f64::from(old);
                changes.push(Change { row: i, id: id as usize, term: term(new) - term(old) });
                slopes[i * TOP + j] = (term(new) as f32) * slope(new) - (term(old) as f32) * slope(old);
                if new > row.best {
                    (row.best, row.argmax) = (new, id);
                }
                for ((asked, logits), ranks) in self.tokens.iter().zip(&self.logits).zip(&mut *ranks) {
                    if asked[i] != id {
                        let above = |z: f32| i64::from(f64::from(z) > logits[i]);
                        ranks[i] += above(new) - above(old);
                    }
                }
            }
        }
        if let Some(e) = e {
            let slopes = Tensor::from_slice(&slopes).f_view([rows, 1, k])?;
            *e += slopes.f_matmul(&weights)?.f_squeeze_dim(1)?;
        }
        Ok(changes)
    }
}
