//! The sweep on the CPU: blocks of rows in parallel, each over tiles of the vocabulary that stay in the cache.

use tch::{Device, Kind, Tensor};

use super::{
    Ask, Precision, Read, Readout, TokenRead,
    corrected::Correction,
    head::Head,
    kernel,
    marginal::{Kept, marginal},
    row::{Query, Row, read},
    top::Top,
};
use crate::{Error, raw::with_f32};

/// Rows and tokens of a tile: 1 MB of logits, about a core's own cache.
const ROWS: usize = 512;
const TILE: i64 = 512;
/// The fewest rows of a block: products of fewer waste their time on reading `W`.
const FEWEST: usize = 16;
/// How far logits may rise above a row's reference before its sums are rescaled; `exp` of it is far from overflow.
const SLACK: f32 = 8.0;
/// Tiles kept for a marginal take at most so many bytes per thread.
const KEPT_BYTES: usize = 64 << 20;
/// Logits of this size have no digits behind the fourth in f32: the largest are computed again in f64.
pub(super) const MASSIVE: f32 = 256.0;

/// A block of rows, with everything a worker needs: tensors may move between threads, not be shared.
struct Block<'a> {
    n: Tensor,
    head: Head,
    bias: &'a [f32],
    fast: bool,
    expectation: bool,
    queries: Vec<Query<'a>>,
    marginal: Option<&'a [f32]>,
}

/// What a block has found so far.
struct Found {
    rows: Vec<Row>,
    top: Vec<Top>,
    e: Option<Tensor>,
    kept: Vec<Kept>,
}

pub(super) fn sweep(
    readout: &Readout,
    n: &Tensor,
    ask: Ask<'_>,
    precision: Precision,
) -> Result<Read, Error> {
    let rows = n.size()[0] as usize;
    let size = match ask.marginal {
        Some(_) => (KEPT_BYTES / (4 * readout.vocab())).clamp(16, ROWS),
        None => ROWS,
    };
    // Enough blocks for every thread, none smaller than a product can use well.
    let size = size.min(rows.div_ceil(readout.workers.count()).max(FEWEST));
    let jobs = (0..rows).step_by(size).map(|start| {
        let len = size.min(rows - start);
        let part = n.narrow(0, start as i64, len as i64);
        let queries = ask.tokens.iter().map(|list| {
            let ids = &list[start..start + len];
            Ok(Query { ids, logits: readout.token_logits(&part, ids)?, ranks: vec![0; len] })
        });
        Ok(Block {
            queries: queries.collect::<Result<_, Error>>()?,
            n: part,
            head: readout.head.shallow_clone(),
            bias: &readout.bias_host,
            fast: precision == Precision::Fast,
            expectation: ask.expectation,
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
    fn run(mut self) -> Result<Read, Error> {
        let mut found = self.tiles()?;
        let which: Vec<usize> = if self.fast {
            (0..found.rows.len()).collect()
        } else {
            (0..found.rows.len()).filter(|i| found.rows[*i].best > MASSIVE).collect()
        };
        let correction = Correction { head: &self.head, n: &self.n, top: &found.top, fast: self.fast };
        let (changes, doubtful) =
            correction.apply(&which, &mut found.rows, &mut self.queries, found.e.as_mut())?;
        let marginal = match self.marginal {
            Some(weights) => {
                let sure = |(w, doubtful): (&f32, &bool)| if *doubtful { 0.0 } else { *w };
                let weights: Vec<f32> = weights.iter().zip(&doubtful).map(sure).collect();
                let vocab = self.head.weight.size()[0] as usize;
                Some(marginal(vocab, &weights, &found.rows, &found.kept, &changes)?)
            }
            None => None,
        };
        Ok(Read { marginal, ..read(&found.rows, self.queries, found.e, doubtful)? })
    }

    /// Everything that is summed tile by tile.
    fn tiles(&mut self) -> Result<Found, Error> {
        let (rows, vocab, d) = (self.n.size()[0], self.head.weight.size()[0], self.head.weight.size()[1]);
        let options = (Kind::Float, Device::Cpu);
        let mut found = Found {
            rows: vec![Row::START; rows as usize],
            top: vec![Top::default(); rows as usize],
            e: if self.expectation { Some(Tensor::f_zeros([rows, d], options)?) } else { None },
            kept: Vec::new(),
        };
        let half = match &self.head.half {
            Some(weight) if self.fast => Some((weight.shallow_clone(), self.n.f_to_kind(Kind::BFloat16)?)),
            _ => None,
        };
        let mut buffer = Tensor::f_empty([rows, TILE.min(vocab)], options)?;
        for first in (0..vocab).step_by(TILE as usize) {
            let width = TILE.min(vocab - first);
            if buffer.size()[1] != width || self.marginal.is_some() {
                buffer = Tensor::f_empty([rows, width], options)?;
            }
            let weight = self.head.weight.f_narrow(0, first, width)?;
            match &half {
                Some((w, n)) => buffer.f_copy_(&n.f_mm(&w.f_narrow(0, first, width)?.tr())?)?,
                None => drop(self.n.f_mm_out(&buffer, &weight.tr())?),
            }
            let risen = with_f32(&mut buffer, |tile| self.scan(tile, first, &mut found))?;
            if let Some(e) = &mut found.e {
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
                let references = found.rows.iter().map(|row| row.reference).collect();
                found.kept.push(Kept { start: first as usize, terms: buffer.shallow_clone(), references });
            }
        }
        Ok(found)
    }

    /// Takes in one tile of logits and leaves `exp(z - reference)` in it (times the cap's slope); says which rows'
    /// sums were rescaled, and by what.
    fn scan(&mut self, tile: &mut [f32], first: i64, found: &mut Found) -> Vec<(usize, f32)> {
        let width = tile.len() / found.rows.len();
        let cap = self.head.cap.map(|cap| cap as f32);
        let mut risen = Vec::new();
        for (i, (z, row)) in tile.chunks_exact_mut(width).zip(&mut found.rows).enumerate() {
            if !self.bias.is_empty() {
                kernel::add(z, &self.bias[first as usize..][..width]);
            }
            if let Some(cap) = cap {
                kernel::cap(z, cap);
            }
            let max = kernel::max(z);
            if max > row.best {
                row.best = max;
                row.argmax = first + z.iter().position(|x| *x == max).unwrap_or(0) as i64;
            }
            for query in &mut self.queries {
                query.ranks[i] += rank(z, first, query.ids[i], query.logits[i]);
            }
            // Half as much: what is below it when the row turns out massive has no mass.
            if self.fast || max > MASSIVE / 2.0 {
                found.top[i].take(z, first, max);
            }
            if max > row.reference + SLACK || row.reference == f32::MIN {
                risen.push((i, row.refer_to(max)));
            }
            let (sum, zsum) = match cap {
                Some(cap) if self.expectation => kernel::exp_sums_capped(z, row.reference, cap),
                _ => kernel::exp_sums(z, row.reference),
            };
            row.sum += f64::from(sum);
            row.zsum += f64::from(zsum);
        }
        risen
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
