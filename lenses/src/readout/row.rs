//! The running sums of one row, and what they come to.

use tch::Tensor;

use super::{Read, TokenRead};
use crate::Error;

/// Running sums of one row of logits `z`, relative to `exp(reference)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) reference: f32,
    /// `Σ exp(z - reference)`.
    pub(super) sum: f64,
    /// `Σ exp(z - reference) (z - reference)`: relative too, or the digits would go into the size of the logits.
    pub(super) zsum: f64,
    pub(super) best: f32,
    pub(super) argmax: i64,
}

impl Row {
    /// Nothing seen yet.
    pub(super) const START: Self =
        Self { reference: f32::MIN, sum: 0.0, zsum: 0.0, best: f32::NEG_INFINITY, argmax: 0 };

    /// Moves the reference; returns what terms so far are to be multiplied with.
    pub(super) fn refer_to(&mut self, reference: f32) -> f32 {
        let factor = (self.reference - reference).exp();
        let moved = f64::from(self.reference) - f64::from(reference);
        self.zsum = (self.zsum + moved * self.sum) * f64::from(factor);
        self.sum *= f64::from(factor);
        self.reference = reference;
        factor
    }

    pub(super) fn lse(&self) -> f64 {
        f64::from(self.reference) + self.sum.ln()
    }

    fn mean_logit(&self) -> f64 {
        f64::from(self.reference) + self.zsum / self.sum
    }
}

/// What was asked of one list of tokens: ids, their logits, and how many logits were found to be larger.
pub(super) struct Query<'a> {
    pub(super) ids: &'a [i64],
    pub(super) logits: Vec<f64>,
    pub(super) ranks: Vec<i64>,
}

/// Everything but the marginal, from the sums of all rows and `e`, the sums of `exp(z - reference) W` `[rows, d]`.
pub(super) fn read(
    rows: &[Row],
    queries: Vec<Query<'_>>,
    e: Option<Tensor>,
    doubtful: Vec<bool>,
) -> Result<Read, Error> {
    let expectation = match e {
        Some(e) => {
            let sums: Vec<f32> = rows.iter().map(|row| row.sum as f32).collect();
            Some(e.f_div(&Tensor::from_slice(&sums).to_device(e.device()).f_unsqueeze(-1)?)?)
        }
        None => None,
    };
    let token = |queries: Query<'_>| {
        let ranks = queries.ranks.into_iter().zip(queries.ids);
        TokenRead {
            logit: queries.logits,
            rank: ranks.map(|(rank, id)| if *id < 0 { -1 } else { rank }).collect(),
        }
    };
    Ok(Read {
        lse: rows.iter().map(Row::lse).collect(),
        mean_logit: rows.iter().map(Row::mean_logit).collect(),
        argmax: rows.iter().map(|row| row.argmax).collect(),
        tokens: queries.into_iter().map(token).collect(),
        expectation,
        marginal: None,
        doubtful,
    })
}
