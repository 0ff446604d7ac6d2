//! What makes a bf16 sweep good: the largest logits of every row once more, in every sum, and from the difference how
//! good it is.
//!
//! A row's sixteen largest logits are known exactly now, and so is by how much bf16 missed them. What is left of the
//! error is in the tail, the tokens beyond: its mass times the error of a logit bounds what the row's `lse` is off by
//! when the tail's logits err alike. A row for which that is too much is *doubtful*, and swept again in f32. This is
//! decided by the row's own numbers, so that no other row, thread or batch has a part in it.

use tch::{Device, Kind, Tensor};

use super::{
    ask::places,
    head::Head,
    row::{Query, Row},
    top::{TOP, Top},
};
use crate::Error;

/// A row is doubtful when its bf16 logits are off by more, root mean square over the sixteen.
const LOGIT: f64 = 0.25;
/// A row is doubtful when the tail's mass times the error of a logit is more, nats.
const ROW: f64 = 0.02;
/// A row is doubtful when a token beyond the sixteen could be the likeliest, if its error is so many times as large.
const GAP: f64 = 4.0;
/// Numbers of `W` gathered at once.
const AT_ONCE: usize = 16 << 20;

/// How a correction changed one term, relative to its row's reference.
pub(super) struct Change {
    pub(super) row: usize,
    pub(super) id: usize,
    pub(super) term: f64,
}

/// Rows whose largest logits are computed again.
pub(super) struct Correction<'a> {
    pub(super) head: &'a Head,
    /// Normalised states of all rows.
    pub(super) n: &'a Tensor,
    /// Of all rows.
    pub(super) top: &'a [Top],
    /// Whether the sweep was in bf16; the sums of products are in f64 otherwise.
    pub(super) fast: bool,
}

impl Correction<'_> {
    /// Puts better logits in the place of the largest ones of the rows `which`, in every sum; says how the terms
    /// changed, and which rows are doubtful.
    pub(super) fn apply(
        &self,
        which: &[usize],
        rows: &mut [Row],
        queries: &mut [Query<'_>],
        mut e: Option<&mut Tensor>,
    ) -> Result<(Vec<Change>, Vec<bool>), Error> {
        let mut changes = Vec::new();
        let mut doubtful = vec![false; rows.len()];
        let d = self.n.size()[1];
        for which in which.chunks((AT_ONCE / (TOP * d as usize)).max(1)) {
            let index = places(which).to_device(self.n.device());
            let ids: Vec<i64> = which.iter().flat_map(|i| self.top[*i].ids.map(|id| id.max(0))).collect();
            let ids = Tensor::from_slice(&ids).to_device(self.n.device());
            let picked = |w: &Tensor| w.f_index_select(0, &ids)?.f_view([which.len() as i64, TOP as i64, d]);
            let weights = picked(&self.head.weight)?;
            let n = self.n.f_index_select(0, &index)?;
            let new = self.head.picked_logits(&weights, &n, &ids, !self.fast)?;
            let new = Vec::<f64>::try_from(new.f_view([-1])?.to_device(Device::Cpu))?;
            let (mut to, mut from) = (vec![0f32; new.len()], vec![0f32; new.len()]);
            for (place, &i) in which.iter().enumerate() {
                let part = place * TOP..(place + 1) * TOP;
                let one = Exchange { i, row: &mut rows[i], top: &self.top[i], new: &new[part.clone()] };
                doubtful[i] = one.run(self, queries, &mut changes, &mut to[part.clone()], &mut from[part]);
            }
            if let Some(e) = &mut e {
                let times = |slopes: &[f32], w: &Tensor| {
                    let slopes =
                        Tensor::from_slice(slopes).to_device(w.device()).f_view([-1, 1, TOP as i64])?;
                    slopes.f_matmul(w)?.f_squeeze_dim(1)
                };
                // What the sweep added was bf16 rows of W: those come off.
                let old = match (&self.head.half, self.fast) {
                    (Some(half), true) => times(&from, &picked(half)?.f_to_kind(Kind::Float)?)?,
                    _ => times(&from, &weights)?,
                };
                let _ = e.f_index_add_(0, &index, &times(&to, &weights)?.f_sub(&old)?)?;
            }
        }
        Ok((changes, doubtful))
    }
}

/// The exchange of one row's largest logits.
struct Exchange<'a> {
    i: usize,
    row: &'a mut Row,
    top: &'a Top,
    new: &'a [f64],
}

impl Exchange<'_> {
    /// Leaves the new and old factors of the rows of `W` in `to` and `from`; whether the row is doubtful.
    fn run(
        self,
        of: &Correction<'_>,
        queries: &mut [Query<'_>],
        changes: &mut Vec<Change>,
        to: &mut [f32],
        from: &mut [f32],
    ) -> bool {
        let Self { i, row, top, new } = self;
        let reference = f64::from(row.reference);
        let slope = |z: f64| of.head.cap.map_or(1.0, |cap| 1.0 - (z / cap).powi(2));
        let (mut squares, mut mass, mut count) = (0.0, 0.0, 0.0);
        let mut best = (f64::NEG_INFINITY, i64::MAX);
        for (j, (&id, &new)) in top.ids.iter().zip(new).enumerate().filter(|(_, (id, _))| **id >= 0) {
            let old = f64::from(top.values[j]);
            let (after, before) = ((new - reference).exp(), (old - reference).exp());
            row.sum += after - before;
            row.zsum += after * (new - reference) - before * (old - reference);
            changes.push(Change { row: i, id: id as usize, term: after - before });
            (to[j], from[j]) = ((after * slope(new)) as f32, (before * slope(old)) as f32);
            (squares, mass, count) = (squares + (new - old).powi(2), mass + after, count + 1.0);
            if new > best.0 || (new == best.0 && id < best.1) {
                best = (new, id);
            }
            for queries in queries.iter_mut().filter(|queries| queries.ids[i] != id) {
                let above = |z: f64| i64::from(z as f32 > queries.logits[i] as f32);
                queries.ranks[i] += above(new) - above(old);
            }
        }
        (row.best, row.argmax) = (best.0 as f32, best.1);
        let error = (squares / f64::max(count, 1.0)).sqrt();
        let tail = 1.0 - mass / row.sum;
        let beyond = if top.ids[TOP - 1] < 0 { f64::NEG_INFINITY } else { f64::from(top.values[TOP - 1]) };
        // Not one of the comparisons holds for a NaN.
        let sure = row.sum > 0.0 && error <= LOGIT && tail * error <= ROW && best.0 - beyond >= GAP * error;
        of.fast && !sure
    }
}
