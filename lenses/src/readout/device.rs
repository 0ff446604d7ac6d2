//! The sweep by torch operations, for CUDA: large tiles, one product per tile.

use tch::{Device, Kind, Tensor};

use super::{Ask, Read, Readout, TokenRead};
use crate::Error;

/// Logits held at once.
const AT_ONCE: i64 = 64 << 20;
/// Rows read at once.
const ROWS: i64 = 8192;

pub(super) fn sweep(readout: &Readout, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
    let rows = n.size()[0];
    let (mut read, mut expectations) = (Read::default(), Vec::new());
    for start in (0..rows).step_by(ROWS as usize) {
        let len = ROWS.min(rows - start);
        let range = start as usize..(start + len) as usize;
        let lists: Vec<&[i64]> = ask.tokens.iter().map(|list| &list[range.clone()]).collect();
        let part = Ask { tokens: &lists, marginal: ask.marginal.map(|w| &w[range.clone()]), ..ask };
        let mut part = rows_at_once(readout, &n.f_narrow(0, start, len)?, part)?;
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

/// Running sums of all rows, `[rows]` each.
struct Sums {
    max: Tensor,
    sum: Tensor,
    zsum: Tensor,
    argmax: Tensor,
    e: Option<Tensor>,
    ranks: Vec<Tensor>,
}

fn rows_at_once(readout: &Readout, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
    let (rows, vocab, device) = (n.size()[0], readout.vocab() as i64, n.device());
    let logits = ask.tokens.iter().map(|ids| readout.token_logits(n, ids)).collect::<Result<Vec<_>, _>>()?;
    let column =
        |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).to_device(device).unsqueeze(-1);
    let thresholds: Vec<Tensor> = logits.iter().map(|z| column(z)).collect();
    let owners: Vec<Tensor> =
        ask.tokens.iter().map(|ids| Tensor::from_slice(ids).to_device(device).unsqueeze(-1)).collect();
    let zeros = |kind| Tensor::f_zeros([rows], (kind, device));
    let mut s = Sums {
        max: Tensor::f_full([rows], f64::NEG_INFINITY, (Kind::Float, device))?,
        sum: zeros(Kind::Double)?,
        zsum: zeros(Kind::Double)?,
        argmax: zeros(Kind::Int64)?,
        e: if ask.expectation { Some(n.f_zeros_like()?) } else { None },
        ranks: owners.iter().map(|_| zeros(Kind::Int64)).collect::<Result<_, _>>()?,
    };
    let tile = (AT_ONCE / rows.max(1)).clamp(256, vocab.max(256));
    for first in (0..vocab).step_by(tile as usize) {
        let z = logits_of(readout, n, first, tile.min(vocab - first))?;
        s.take(readout, &z, first, &thresholds, &owners)?;
    }
    let lse = s.sum.f_log()?.f_add(&s.max)?;
    let marginal = match ask.marginal {
        Some(weights) => Some(marginal(readout, n, &lse, weights, tile)?),
        None => None,
    };
    let host =
        |t: &Tensor| Ok::<_, Error>(Vec::<f64>::try_from(t.f_to_kind(Kind::Double)?.to_device(Device::Cpu))?);
    let ids = |t: &Tensor| Ok::<_, Error>(Vec::<i64>::try_from(t.to_device(Device::Cpu))?);
    let mut tokens = Vec::new();
    for ((logit, rank), asked) in logits.into_iter().zip(&s.ranks).zip(ask.tokens) {
        let rank = ids(rank)?.into_iter().zip(*asked).map(|(r, id)| if *id < 0 { -1 } else { r }).collect();
        tokens.push(TokenRead { logit, rank });
    }
    let expectation = match s.e {
        Some(e) => Some(e.f_div(&s.sum.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?)?),
        None => None,
    };
    let mean_logit = host(&s.zsum.f_div(&s.sum)?)?;
    Ok(Read { lse: host(&lse)?, mean_logit, argmax: ids(&s.argmax)?, tokens, expectation, marginal })
}

/// Logits `[rows, width]` in f32 of the tokens from `first` on; a fast readout multiplies in bf16.
fn logits_of(readout: &Readout, n: &Tensor, first: i64, width: i64) -> Result<Tensor, Error> {
    let mut z = match &readout.half {
        Some(half) => {
            let w = half.f_narrow(0, first, width)?;
            n.f_to_kind(Kind::BFloat16)?.f_mm(&w.tr())?.f_to_kind(Kind::Float)?
        }
        None => n.f_mm(&readout.weight.f_narrow(0, first, width)?.tr())?,
    };
    if let Some(bias) = &readout.bias {
        z = z.f_add_(&bias.f_narrow(0, first, width)?)?;
    }
    Ok(match readout.soft_cap() {
        Some(cap) => (z / cap).f_tanh()? * cap,
        None => z,
    })
}

impl Sums {
    /// Takes in the logits of one tile.
    fn take(
        &mut self,
        readout: &Readout,
        z: &Tensor,
        first: i64,
        thresholds: &[Tensor],
        owners: &[Tensor],
    ) -> Result<(), Error> {
        let width = z.size()[1];
        for ((rank, threshold), owner) in self.ranks.iter_mut().zip(thresholds).zip(owners) {
            let ids = Tensor::f_arange_start(first, first + width, (Kind::Int64, z.device()))?;
            let above = z.f_gt_tensor(threshold)?.f_logical_and(&ids.f_ne_tensor(owner)?)?;
            *rank = rank.f_add(&above.f_sum_dim_intlist(-1, false, Kind::Int64)?)?;
        }
        let (max, place) = z.f_max_dim(-1, false)?;
        let rises = max.f_gt_tensor(&self.max)?;
        self.argmax = (place + first).f_where_self(&rises, &self.argmax)?;
        let max = max.f_maximum(&self.max)?;
        let factor = self.max.f_sub(&max)?.f_exp()?;
        let terms = z.f_sub(&max.f_unsqueeze(-1)?)?.f_exp()?;
        self.sum = self.sum.f_mul(&factor)?.f_add(&terms.f_sum_dim_intlist(-1, false, Kind::Double)?)?;
        let weighted = terms.f_mul(z)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        self.zsum = self.zsum.f_mul(&factor)?.f_add(&weighted)?;
        if let Some(e) = &mut self.e {
            let terms = match readout.soft_cap() {
                Some(cap) => terms.f_mul(&((z / cap).f_square()?.f_neg()? + 1.0))?,
                None => terms,
            };
            let weight = readout.weight.f_narrow(0, first, width)?;
            let part = match &readout.half {
                Some(half) => {
                    let w = half.f_narrow(0, first, width)?;
                    terms.f_to_kind(Kind::BFloat16)?.f_mm(&w)?.f_to_kind(Kind::Float)?
                }
                None => terms.f_mm(&weight)?,
            };
            *e = e.f_mul(&factor.f_unsqueeze(-1)?)?.f_add(&part)?;
        }
        self.max = max;
        Ok(())
    }
}

/// `Σ weight · softmax` by a second pass.
fn marginal(
    readout: &Readout,
    n: &Tensor,
    lse: &Tensor,
    weights: &[f32],
    tile: i64,
) -> Result<Vec<f64>, Error> {
    let weights = Tensor::from_slice(weights).to_device(n.device()).f_unsqueeze(0)?;
    let lse = lse.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?;
    let vocab = readout.vocab() as i64;
    let mut sums = Vec::with_capacity(vocab as usize);
    for first in (0..vocab).step_by(tile as usize) {
        let terms = logits_of(readout, n, first, tile.min(vocab - first))?.f_sub(&lse)?.f_exp()?;
        let part = weights.f_mm(&terms)?.f_view([-1])?.f_to_kind(Kind::Double)?;
        sums.extend(Vec::<f64>::try_from(part.to_device(Device::Cpu))?);
    }
    Ok(sums)
}
