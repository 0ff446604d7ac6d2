//! What the first half of the documents gives: mean states, their covariance, and some states to find directions on.

use std::collections::BTreeSet;

use layerscope_lenses::{Moments, Rows};
use tch::{Kind, Tensor};

use super::{CausalError, Removal};
use crate::{
    hook::HookPoint,
    model::Model,
    results::draw::{derangement, draw},
    sources::text::Window,
    states::States,
    watch::Underway,
};

/// One layer's states of the first half.
#[derive(Debug)]
pub struct Ground {
    /// The layer.
    pub layer: usize,
    /// `[d]`, f64, over every position.
    pub mean: Tensor,
    /// `[d, d]`, f64, over every position.
    pub covariance: Tensor,
    /// `[n, d]`, f32: states at positions drawn from all, in reading order.
    pub states: Tensor,
    /// Of all draws.
    pub seed: u64,
    /// See [`Sample::keep_first`].
    pub keep_first: bool,
}

/// How the first half is read.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Positions whose states are kept; all when there are fewer.
    pub positions: usize,
    /// Tokens in a batch.
    pub batch: usize,
    /// Of all draws.
    pub seed: u64,
    /// Whether the first position of a window (of each document in it) stays as it is, and out of the means and states:
    /// it often holds a sink, many times as long as all others.
    pub keep_first: bool,
}

impl Ground {
    /// What stands in for [`Ground::states`]: `[d]`, or `[n, d]`, a derangement of them.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub fn own_stand_in(&self, removal: Removal) -> Result<Tensor, CausalError> {
        let n = self.states.size()[0] as usize;
        let order = derangement(self.seed, n).ok_or(CausalError::Positions(n))?;
        self.stand_in(removal, &order.into_iter().map(|i| i as i64).collect::<Vec<_>>())
    }

    /// What stands in for the states of other documents, `own [rows, d]`: `[d]`, or `[rows, d]`, a state each that is
    /// drawn by document and position, so that it does not depend on the batch.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn stand_in_for(&self, removal: Removal, of: &States, own: &Tensor) -> Result<Tensor, CausalError> {
        let n = self.states.size()[0] as u64;
        let donor = |(doc, pos): (&u64, &u32)| (draw(self.seed, *doc, u64::from(*pos)) % n) as i64;
        let other = self.stand_in(removal, &of.docs.iter().zip(&of.pos).map(donor).collect::<Vec<_>>())?;
        if !self.keep_first {
            return Ok(other);
        }
        let first = Tensor::from_slice(&firsts(of)).f_to_device(own.device())?;
        Ok(other.f_expand_as(own)?.f_index_copy(0, &first, &own.f_index_select(0, &first)?)?)
    }

    fn stand_in(&self, removal: Removal, donors: &[i64]) -> Result<Tensor, CausalError> {
        let like = (Kind::Float, self.states.device());
        Ok(match removal {
            Removal::Mean => self.mean.f_to_device(like.1)?.f_to_kind(like.0)?,
            Removal::Zero => Tensor::f_zeros([self.states.size()[1]], like)?,
            Removal::Resample => {
                self.states.f_index_select(0, &Tensor::from_slice(donors).f_to_device(like.1)?)?
            }
        })
    }
}

/// Reads `windows` once for all of `layers`; `stage` counts tokens.
///
/// # Errors
/// When the model cannot run, a state is not finite, or there are fewer than two positions.
pub fn grounds(
    model: &Model,
    layers: &[usize],
    windows: &[&Window],
    sample: Sample,
    stage: &Underway<'_>,
) -> Result<Vec<Ground>, CausalError> {
    let points: Vec<HookPoint> = layers.iter().map(|l| HookPoint::resid_pre(*l)).collect();
    let kept = drawn(windows, sample);
    if kept.len() < 2 {
        return Err(CausalError::Positions(kept.len()));
    }
    let moments = |_| Moments::new(model.spec().d_model, model.device());
    let mut moments: Vec<Moments> = layers.iter().map(moments).collect();
    let mut places = Vec::new();
    let mut parts: Vec<Vec<Tensor>> = layers.iter().map(|_| Vec::new()).collect();
    States::each::<CausalError>(model, &points, (windows, sample.batch), stage, |states, _| {
        let rest = sample.keep_first.then(|| others(states));
        let keys = states.docs.iter().copied().zip(states.pos.iter().copied());
        let own: Vec<(usize, (u64, u32))> = keys.enumerate().filter(|(_, key)| kept.contains(key)).collect();
        let index = Tensor::from_slice(&own.iter().map(|(row, _)| *row as i64).collect::<Vec<_>>());
        let index = index.f_to_device(states.last.device())?;
        for ((moments, parts), rows) in moments.iter_mut().zip(&mut parts).zip(&states.layers) {
            let counted = match &rest {
                Some(rest) => &rows.f_index_select(0, &rest.f_to_device(rows.device())?)?,
                None => rows,
            };
            moments.add(&Rows::new("states", counted)?)?;
            parts.push(rows.f_index_select(0, &index)?);
        }
        places.extend(own.into_iter().map(|(_, key)| key));
        Ok(())
    })?;
    // In reading order, whatever the batches were.
    let mut order: Vec<i64> = (0..places.len() as i64).collect();
    order.sort_by_key(|i| places[*i as usize]);
    let order = Tensor::from_slice(&order).f_to_device(model.device())?;
    let ground = |((layer, moments), parts): ((&usize, &Moments), &Vec<Tensor>)| {
        Ok(Ground {
            layer: *layer,
            mean: moments.mean()?,
            covariance: moments.covariance()?,
            states: Tensor::f_cat(parts, 0)?.f_index_select(0, &order)?,
            seed: sample.seed,
            keep_first: sample.keep_first,
        })
    };
    layers.iter().zip(&moments).zip(&parts).map(ground).collect()
}

/// The documents and positions of some tokens, drawn evenly from all that count.
fn drawn(windows: &[&Window], sample: Sample) -> BTreeSet<(u64, u32)> {
    let segments = windows.iter().flat_map(|w| &w.segments);
    let skipped = u32::from(sample.keep_first);
    let keys = segments.flat_map(|s| (s.doc_pos + skipped..s.doc_pos + s.len).map(|pos| (s.doc_id, pos)));
    // Another seed than that of the donors, which are drawn by the same keys.
    let seed = !sample.seed;
    let mut all: Vec<_> = keys.map(|(doc, pos)| (draw(seed, doc, u64::from(pos)), doc, pos)).collect();
    all.sort_unstable();
    all.into_iter().take(sample.positions).map(|(_, doc, pos)| (doc, pos)).collect()
}

/// The first row of each run.
fn firsts(states: &States) -> Vec<i64> {
    let starts = states.runs.iter().scan(0, |next, len| {
        let start = *next;
        *next += *len as i64;
        Some(start)
    });
    starts.collect()
}

/// All other rows.
fn others(states: &States) -> Tensor {
    let firsts: BTreeSet<i64> = firsts(states).into_iter().collect();
    let rest: Vec<i64> = (0..states.rows() as i64).filter(|row| !firsts.contains(row)).collect();
    Tensor::from_slice(&rest)
}
