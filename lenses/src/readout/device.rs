//! The sweep on CUDA: large tiles, one product per tile.

use tch::{Device, Kind, Tensor};

use super::{
    Ask, Precision, Read, Readout, TokenRead,
    block::MASSIVE,
    corrected::{Change, Correction},
    marginal::correct,
    row::{Query, Row, read},
    top::{TOP, Top},
};
use crate::Error;

/// Logits held at once; so few in tests that small vocabularies have several tiles.
const AT_ONCE: i64 = if cfg!(test) { 20_000 } else { 64 << 20 };
/// Rows read at once.
const ROWS: i64 = 8192;

pub(super) fn sweep(
    readout: &Readout,
    n: &Tensor,
    ask: Ask<'_>,
    precision: Precision,
) -> Result<Read, Error> {
    let rows = n.size()[0];
    let (mut read, mut expectations) = (Read::default(), Vec::new());
    for start in (0..rows).step_by(ROWS as usize) {
        let len = ROWS.min(rows - start);
        let range = start as usize..(start + len) as usize;
        let lists: Vec<&[i64]> = ask.tokens.iter().map(|list| &list[range.clone()]).collect();
        let part = Ask { tokens: &lists, marginal: ask.marginal.map(|w| &w[range.clone()]), ..ask };
        let part_n = n.f_narrow(0, start, len)?;
        let mut part = Part::new(readout, &part_n, part, precision)?.run()?;
        expectations.extend(part.expectation.take());
        read.append(part);
    }
    if ask.expectation {
        read.expectation =
            Some(if expectations.is_empty() { n.f_zeros_like()? } else { Tensor::f_cat(&expectations, 0)? });
    }
    read.tokens.resize(ask.tokens.len(), TokenRead::default());
    Ok(read)
}

/// Rows that are read at once.
struct Part<'a> {
    readout: &'a Readout,
    n: &'a Tensor,
    /// The states in bf16; none: an exact sweep.
    half: Option<Tensor>,
    ask: Ask<'a>,
    /// Per list of tokens, on the device `[rows, 1]`: logits, and ids.
    thresholds: Vec<[Tensor; 2]>,
    logits: Vec<Vec<f64>>,
    tile: i64,
}

/// Running sums of all rows, `[rows]` each; `zsum` of `exp(z - max) (z - max)`.
struct Sums {
    max: Tensor,
    sum: Tensor,
    zsum: Tensor,
    argmax: Tensor,
    e: Option<Tensor>,
    ranks: Vec<Tensor>,
    /// Values and ids of the largest logits, `[rows, up to 16]`, where they are wanted.
    top: Option<[Tensor; 2]>,
}

impl<'a> Part<'a> {
    fn new(readout: &'a Readout, n: &'a Tensor, ask: Ask<'a>, precision: Precision) -> Result<Self, Error> {
        let half = (precision == Precision::Fast).then(|| n.f_to_kind(Kind::BFloat16)).transpose()?;
        let logits: Vec<Vec<f64>> =
            ask.tokens.iter().map(|ids| readout.token_logits(n, ids)).collect::<Result<_, _>>()?;
        let threshold = |(z, ids): (&Vec<f64>, &&[i64])| {
            let column = |t: Tensor| t.to_device(n.device()).f_unsqueeze(-1);
            Ok([column(Tensor::from_slice(z).to_kind(Kind::Float))?, column(Tensor::from_slice(ids))?])
        };
        let thresholds = logits.iter().zip(ask.tokens).map(threshold).collect::<Result<_, Error>>()?;
        let vocab = readout.vocab() as i64;
        let tile = (AT_ONCE / n.size()[0].max(1)).clamp(256, vocab.max(256));
        Ok(Self { readout, n, half, ask, thresholds, logits, tile })
    }

    fn run(self) -> Result<Read, Error> {
        let fast = self.half.is_some();
        let mut sums = self.tiles(fast)?;
        if !fast && sums.max.f_max()?.double_value(&[]) > f64::from(MASSIVE) {
            sums = self.tiles(true)?;
        }
        let mut rows = sums.rows()?;
        let mut asked = Vec::new();
        for ((logits, ids), ranks) in self.logits.iter().zip(self.ask.tokens).zip(&sums.ranks) {
            asked.push(Query { ids, logits: logits.clone(), ranks: integers(ranks)? });
        }
        let top = sums.top.as_ref().map(tops).transpose()?.unwrap_or_default();
        let known = if top.is_empty() { 0 } else { rows.len() };
        let which: Vec<usize> = (0..known).filter(|i| fast || rows[*i].best > MASSIVE).collect();
        let correction = Correction { head: &self.readout.head, n: self.n, top: &top, fast };
        let (changes, doubtful) = correction.apply(&which, &mut rows, &mut asked, sums.e.as_mut())?;
        let marginal = match self.ask.marginal {
            Some(weights) => {
                let sure = |(w, doubtful): (&f32, &bool)| if *doubtful { 0.0 } else { *w };
                let weights: Vec<f32> = weights.iter().zip(&doubtful).map(sure).collect();
                Some(self.marginal(&rows, &weights, &changes)?)
            }
            None => None,
        };
        Ok(Read { marginal, ..read(&rows, asked, sums.e, doubtful)? })
    }

    /// Everything that is summed tile by tile; with `top` the largest logits are kept.
    fn tiles(&self, top: bool) -> Result<Sums, Error> {
        let (rows, vocab) = (self.n.size()[0], self.readout.vocab() as i64);
        let zeros = |kind| Tensor::f_zeros([rows], (kind, self.n.device()));
        let none = |kind| Tensor::f_zeros([rows, 0], (kind, self.n.device()));
        let mut sums = Sums {
            max: Tensor::f_full([rows], f64::from(f32::MIN), (Kind::Float, self.n.device()))?,
            sum: zeros(Kind::Double)?,
            zsum: zeros(Kind::Double)?,
            argmax: zeros(Kind::Int64)?,
            e: if self.ask.expectation { Some(self.n.f_zeros_like()?) } else { None },
            ranks: self.thresholds.iter().map(|_| zeros(Kind::Int64)).collect::<Result<_, _>>()?,
            top: if top { Some([none(Kind::Float)?, none(Kind::Int64)?]) } else { None },
        };
        for first in (0..vocab).step_by(self.tile as usize) {
            let width = self.tile.min(vocab - first);
            let z = self.readout.head.logits(self.n, self.half.as_ref(), first, width)?;
            self.take(&mut sums, &z, first)?;
        }
        Ok(sums)
    }

    /// Takes in the logits of one tile.
    fn take(&self, s: &mut Sums, z: &Tensor, first: i64) -> Result<(), Error> {
        let width = z.size()[1];
        for (rank, [threshold, owner]) in s.ranks.iter_mut().zip(&self.thresholds) {
            let ids = Tensor::f_arange_start(first, first + width, (Kind::Int64, z.device()))?;
            let above = z.f_gt_tensor(threshold)?.f_logical_and(&ids.f_ne_tensor(owner)?)?;
            *rank = rank.f_add(&above.f_sum_dim_intlist(-1, false, Kind::Int64)?)?;
        }
        if let Some(top) = &mut s.top {
            larger(top, z, first)?;
        }
        let (max, place) = z.f_max_dim(-1, false)?;
        let rises = max.f_gt_tensor(&s.max)?;
        s.argmax = (place + first).f_where_self(&rises, &s.argmax)?;
        let max = max.f_maximum(&s.max)?;
        let moved = s.max.f_to_kind(Kind::Double)?.f_sub(&max)?;
        let factor = moved.f_exp()?;
        let relative = z.f_sub(&max.f_unsqueeze(-1)?)?;
        let terms = relative.f_exp()?;
        let part = terms.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let weighted = terms.f_mul(&relative)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        s.zsum = s.zsum.f_add(&moved.f_mul(&s.sum)?)?.f_mul(&factor)?.f_add(&weighted)?;
        s.sum = s.sum.f_mul(&factor)?.f_add(&part)?;
        if let Some(e) = &mut s.e {
            let terms = match self.readout.head.cap {
                Some(cap) => terms.f_mul(&((z / cap).f_square()?.f_neg()? + 1.0))?,
                None => terms,
            };
            let part = match (&self.half, &self.readout.head.half) {
                (Some(_), Some(half)) => {
                    let w = half.f_narrow(0, first, width)?;
                    terms.f_to_kind(Kind::BFloat16)?.f_mm(&w)?.f_to_kind(Kind::Float)?
                }
                _ => terms.f_mm(&self.readout.head.weight.f_narrow(0, first, width)?)?,
            };
            *e = e.f_mul(&factor.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?)?.f_add(&part)?;
        }
        s.max = max;
        Ok(())
    }

    /// `Σ weight · softmax` by a second pass.
    fn marginal(&self, rows: &[Row], weights: &[f32], changes: &[Change]) -> Result<Vec<f64>, Error> {
        let vocab = self.readout.vocab() as i64;
        let column = |values: Vec<f64>| Tensor::from_slice(&values).to_device(self.n.device());
        // Relative to the reference: an lse has fewer digits in f32 than what is left of it.
        let references = column(rows.iter().map(|row| f64::from(row.reference)).collect());
        let references = references.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?;
        let factor = |(row, w): (&Row, &f32)| if *w == 0.0 { 0.0 } else { f64::from(*w) / row.sum };
        let factors = column(rows.iter().zip(weights).map(factor).collect());
        let factors = factors.f_to_kind(Kind::Float)?.f_unsqueeze(0)?;
        let mut sums = Vec::with_capacity(vocab as usize);
        for first in (0..vocab).step_by(self.tile as usize) {
            let width = self.tile.min(vocab - first);
            let z = self.readout.head.logits(self.n, self.half.as_ref(), first, width)?;
            let part = factors.f_mm(&z.f_sub(&references)?.f_exp()?)?.f_view([-1])?;
            sums.extend(Vec::<f64>::try_from(part.f_to_kind(Kind::Double)?.to_device(Device::Cpu))?);
        }
        correct(&mut sums, weights, rows, changes);
        Ok(sums)
    }
}

impl Sums {
    /// The sums of every row, on the host.
    fn rows(&self) -> Result<Vec<Row>, Error> {
        let (max, argmax) = (numbers(&self.max)?, integers(&self.argmax)?);
        let sums = numbers(&self.sum)?.into_iter().zip(numbers(&self.zsum)?);
        let row = |((max, argmax), (sum, zsum)): ((f64, i64), (f64, f64))| {
            let reference = max as f32;
            Row { reference, sum, zsum, best: reference, argmax }
        };
        Ok(max.into_iter().zip(argmax).zip(sums).map(row).collect())
    }
}

/// Puts the largest logits of a tile among the largest so far, values and ids.
fn larger(top: &mut [Tensor; 2], z: &Tensor, first: i64) -> Result<(), Error> {
    let k = TOP as i64;
    let (values, places) = z.f_topk(k.min(z.size()[1]), -1, true, true)?;
    let values = Tensor::f_cat(&[&top[0], &values], -1)?;
    let ids = Tensor::f_cat(&[&top[1], &(places + first)], -1)?;
    let (values, places) = values.f_topk(k.min(values.size()[1]), -1, true, true)?;
    *top = [values, ids.f_gather(-1, &places, false)?];
    Ok(())
}

/// The largest logits of every row, on the host.
fn tops([values, ids]: &[Tensor; 2]) -> Result<Vec<Top>, Error> {
    let k = values.size()[1] as usize;
    let (values, ids) = (numbers(&values.f_reshape([-1])?)?, integers(&ids.f_reshape([-1])?)?);
    let one = |(values, ids): (&[f64], &[i64])| {
        let mut top = Top::default();
        for (place, (value, id)) in values.iter().zip(ids).enumerate() {
            (top.values[place], top.ids[place]) = (*value as f32, *id);
        }
        top
    };
    Ok(values.chunks_exact(k).zip(ids.chunks_exact(k)).map(one).collect())
}

fn numbers(t: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(Vec::<f64>::try_from(t.f_to_kind(Kind::Double)?.to_device(Device::Cpu))?)
}

fn integers(t: &Tensor) -> Result<Vec<i64>, Error> {
    Ok(Vec::<i64>::try_from(t.to_device(Device::Cpu))?)
}
