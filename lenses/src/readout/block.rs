//! The sweep on the CPU: blocks of rows in parallel, each over tiles of the vocabulary that stay in the cache.

use tch::{Device, Kind, Tensor};

use super::{
    Ask, Read, Readout, TokenRead, kernel,
    marginal::{Kept, marginal},
    top::{Change, Top},
};
use crate::{Error, raw::with_f32};

/// Rows and tokens of a tile: 1 MB of logits, about a core's own cache.
const ROWS: usize = 512;
const TILE: i64 = 512;
/// How far logits may rise above a row's reference before its sums are rescaled; `exp` of it is far from overflow.
const SLACK: f32 = 8.0;
/// Tiles kept for a marginal take at most so many bytes per thread.
const KEPT_BYTES: usize = 64 << 20;

/// A block of rows, with everything a worker needs: tensors may move between threads, not be shared.
pub(super) struct Block<'a> {
    pub(super) n: Tensor,
    pub(super) weight: Tensor,
    half: Option<Tensor>,
    pub(super) bias: &'a [f32],
    pub(super) cap: Option<f32>,
    expectation: bool,
    pub(super) tokens: Vec<&'a [i64]>,
    pub(super) logits: Vec<Vec<f64>>,
    marginal: Option<&'a [f32]>,
}

/// Running sums of one row, relative to `exp(reference)`.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) reference: f32,
    pub(super) sum: f64,
    pub(super) zsum: f64,
    pub(super) best: f32,
    pub(super) argmax: i64,
}

pub(super) fn sweep(readout: &Readout, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
    let rows = n.size()[0] as usize;
    let size = match ask.marginal {
        Some(_) => (KEPT_BYTES / (4 * readout.vocab())).clamp(16, ROWS),
        None => ROWS,
    };
    // Enough blocks for every thread, none smaller than a product can use well.
    let size = size.min(rows.div_ceil(readout.workers.count()).max(64));
    let jobs = (0..rows).step_by(size).map(|start| {
        let len = size.min(rows - start);
        let part = n.narrow(0, start as i64, len as i64);
        let tokens: Vec<&[i64]> = ask.tokens.iter().map(|list| &list[start..start + len]).collect();
        let logits = tokens.iter().map(|ids| readout.token_logits(&part, ids)).collect::<Result<_, _>>()?;
        Ok(Block {
            n: part,
            weight: readout.weight.shallow_clone(),
            half: readout.half.as_ref().map(Tensor::shallow_clone),
            bias: &readout.bias_host,
            cap: readout.soft_cap().map(|cap| cap as f32),
            expectation: ask.expectation,
            tokens,
            logits,
            marginal: ask.marginal.map(|weights| &weights[start..start + len]),
        })
    });
    let jobs = jobs.collect::<Result<Vec<_>, Error>>()?;
    let mut read = Read::default();
    let mut expectations = Vec::new();
    for mut part in readout.workers.map(jobs, Block::run)? {
        expectations.extend(part.expectation.take());
        read.append(part);
    }
    if ask.expectation {
        let empty = || Tensor::f_zeros([0, readout.d_model() as i64], (Kind::Float, Device::Cpu));
        read.expectation =
            Some(if expectations.is_empty() { empty()? } else { Tensor::f_cat(&expectations, 0)? });
    }
    read.tokens.resize(ask.tokens.len(), TokenRead::default());
    Ok(read)
}

impl Block<'_> {
    fn run(self) -> Result<Read, Error> {
        let (rows, vocab, d) = (self.n.size()[0], self.weight.size()[0], self.weight.size()[1]);
        let start =
            Row { reference: f32::NEG_INFINITY, sum: 0.0, zsum: 0.0, best: f32::NEG_INFINITY, argmax: 0 };
        let mut state = vec![start; rows as usize];
        let mut ranks = vec![vec![0i64; rows as usize]; self.tokens.len()];
        let options = (Kind::Float, Device::Cpu);
        let mut e = if self.expectation { Some(Tensor::f_zeros([rows, d], options)?) } else { None };
        let half = match &self.half {
            Some(weight) => Some((weight, self.n.f_to_kind(Kind::BFloat16)?)),
            None => None,
        };
        let mut top = self.half.as_ref().map(|_| vec![Top::default(); rows as usize]);
        let mut kept = Vec::new();
        let mut buffer = Tensor::f_empty([rows, TILE.min(vocab)], options)?;
        for first in (0..vocab).step_by(TILE as usize) {
            let width = TILE.min(vocab - first);
            if buffer.size()[1] != width || self.marginal.is_some() {
                buffer = Tensor::f_empty([rows, width], options)?;
            }
            let weight = self.weight.f_narrow(0, first, width)?;
            match &half {
                Some((w, n)) => buffer.f_copy_(&n.f_mm(&w.f_narrow(0, first, width)?.tr())?)?,
                None => drop(self.n.f_mm_out(&buffer, &weight.tr())?),
            }
            let risen =
                with_f32(&mut buffer, |tile| self.scan(tile, first, &mut state, &mut ranks, &mut top))?;
            if let Some(e) = &mut e {
                with_f32(e, |e| rescale(e, d as usize, &risen))?;
                match &half {
                    Some((w, _)) => {
                        let w = w.f_narrow(0, first, width)?;
                        *e += buffer.f_to_kind(Kind::BFloat16)?.f_mm(&w)?;
                    }
                    None => *e = e.f_addmm_(&buffer, &weight)?,
                }
            }
            if self.marginal.is_some() {
                let references = state.iter().map(|row| row.reference).collect();
                kept.push(Kept { start: first as usize, terms: buffer.shallow_clone(), references });
            }
        }
        let changes = match &top {
            Some(top) => self.correct(top, &mut state, &mut ranks, e.as_mut())?,
            None => Vec::new(),
        };
        self.finish(&state, ranks, e, &kept, &changes)
    }

    /// Takes in one tile of logits and leaves `exp(z - reference)` in it (times the cap's slope); says which rows'
    /// sums were rescaled, and by what.
    fn scan(
        &self,
        tile: &mut [f32],
        first: i64,
        state: &mut [Row],
        ranks: &mut [Vec<i64>],
        top: &mut Option<Vec<Top>>,
    ) -> Vec<(usize, f32)> {
        let width = tile.len() / state.len();
        let mut risen = Vec::new();
        for (i, (z, row)) in tile.chunks_exact_mut(width).zip(state).enumerate() {
            if !self.bias.is_empty() {
                kernel::add(z, &self.bias[first as usize..][..width]);
            }
            if let Some(cap) = self.cap {
                kernel::cap(z, cap);
            }
            let max = kernel::max(z);
            if max > row.best {
                row.best = max;
                row.argmax = first + z.iter().position(|x| *x == max).unwrap_or(0) as i64;
            }
            for ((ids, logits), ranks) in self.tokens.iter().zip(&self.logits).zip(&mut *ranks) {
                ranks[i] += rank(z, first, ids[i], logits[i]);
            }
            if let Some(top) = top {
                top[i].take(z, first, max);
            }
            if max > row.reference + SLACK || row.reference == f32::NEG_INFINITY {
                let factor = (row.reference - max).exp();
                (row.sum, row.zsum) = (row.sum * f64::from(factor), row.zsum * f64::from(factor));
                row.reference = max;
                risen.push((i, factor));
            }
            let (sum, zsum) = match self.cap {
                Some(cap) if self.expectation => kernel::exp_sums_capped(z, row.reference, cap),
                _ => kernel::exp_sums(z, row.reference),
            };
            row.sum += f64::from(sum);
            row.zsum += f64::from(zsum);
        }
        risen
    }

    fn finish(
        self,
        state: &[Row],
        ranks: Vec<Vec<i64>>,
        e: Option<Tensor>,
        kept: &[Kept],
        changes: &[Change],
    ) -> Result<Read, Error> {
        let lse: Vec<f64> = state.iter().map(|row| f64::from(row.reference) + row.sum.ln()).collect();
        let expectation = match e {
            Some(e) => {
                let sums: Vec<f32> = state.iter().map(|row| row.sum as f32).collect();
                Some(e.f_div(&Tensor::from_slice(&sums).f_unsqueeze(-1)?)?)
            }
            None => None,
        };
        let marginal = match self.marginal {
            Some(weights) => {
                let mut sums = marginal(self.weight.size()[0] as usize, weights, &lse, kept)?;
                for change in changes {
                    let (row, reference) = (change.row, f64::from(state[change.row].reference));
                    sums[change.id] += f64::from(weights[row]) * change.term * (reference - lse[row]).exp();
                }
                Some(sums)
            }
            None => None,
        };
        let unasked = |ranks: Vec<i64>, ids: &[i64]| {
            ranks.into_iter().zip(ids).map(|(rank, id)| if *id < 0 { -1 } else { rank }).collect()
        };
        let tokens = self.logits.into_iter().zip(ranks).zip(&self.tokens);
        Ok(Read {
            mean_logit: state.iter().map(|row| row.zsum / row.sum).collect(),
            argmax: state.iter().map(|row| row.argmax).collect(),
            tokens: tokens
                .map(|((logit, ranks), ids)| TokenRead { logit, rank: unasked(ranks, ids) })
                .collect(),
            lse,
            expectation,
            marginal,
        })
    }
}

/// How many logits of a tile are larger than `logit`, the token's own left out: it was computed another way.
fn rank(z: &[f32], first: i64, id: i64, logit: f64) -> i64 {
    if id < 0 {
        return 0;
    }
    let logit = logit as f32;
    let own = usize::try_from(id - first).ok().and_then(|i| z.get(i));
    i64::from(kernel::count_above(z, logit)) - i64::from(own.is_some_and(|z| *z > logit))
}

fn rescale(e: &mut [f32], d: usize, risen: &[(usize, f32)]) {
    for &(row, factor) in risen {
        kernel::scale(&mut e[row * d..(row + 1) * d], factor);
    }
}
