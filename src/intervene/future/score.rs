//! What a reading is worth against the model's own continuation, row by row.

use layerscope_lenses::{Ask, Readout, Teacher};
use tch::Tensor;

use super::FutureError;

/// The metrics of every reading with their units, under the names that `lens eval` has for them; the reference token is
/// the model's own greedy one. `surprisal` is `-log p_model` of the reading's first token, `kl` is KL(model ‖ reading).
pub const METRICS: [(&str, &str); 5] = [
    ("precision_at_1", "share"),
    ("precision_at_5", "share"),
    ("precision_at_10", "share"),
    ("surprisal", "nats"),
    ("kl", "nats"),
];

/// One number per metric.
pub(super) type Scored = [f64; METRICS.len()];

/// The model's own predictions at one horizon.
pub(super) struct Truth {
    teacher: Teacher,
    targets: Vec<i64>,
}

impl Truth {
    /// From the states leaving the last block `[rows, d_model]` and the greedy tokens.
    pub(super) fn of(readout: &Readout, last: &Tensor, targets: Vec<i64>) -> Result<Self, FutureError> {
        Ok(Self { teacher: Teacher::of(readout, last)?, targets })
    }

    /// What `states [rows, d_model]`, before the final norm, are worth, a row each.
    pub(super) fn score(&self, readout: &Readout, states: &Tensor) -> Result<Vec<Scored>, FutureError> {
        self.score_normalized(readout, &readout.normalize(states)?)
    }

    /// As [`Truth::score`], of states that are normalised already.
    pub(super) fn score_normalized(&self, readout: &Readout, n: &Tensor) -> Result<Vec<Scored>, FutureError> {
        let read = readout.sweep(n, Ask { tokens: &[&self.targets], ..Ask::default() })?;
        let kl = self.teacher.kl(readout, n, &read.lse)?;
        let sure = readout.token_logits(&self.teacher.n, &read.argmax)?;
        let row = |i: usize| {
            let rank = if read.argmax[i] == self.targets[i] { 0 } else { read.tokens[0].rank[i] };
            let within = |k: i64| f64::from(u8::from(rank < k));
            [within(1), within(5), within(10), self.teacher.lse[i] - sure[i], kl[i]]
        };
        Ok((0..self.targets.len()).map(row).collect())
    }
}
