//! The unembedding as sweeps read it: `W` and the head bias without what all tokens have in common.

use tch::{Device, Kind, Tensor};

use crate::{Error, Unembed};

/// Numbers that are widened to f64 at once.
const AT_ONCE: i64 = 8 << 20;

/// `W`, the head bias and the soft cap.
///
/// `softmax(W n + b)` stays what it is when a vector is taken off every row of `W` and a number off `b`, but the digits
/// of a logit are used up by its size. So the mean row comes off (and the median of `b`, which masks of -1e9 do not
/// move), once and in f64. Under a soft cap the size of a logit matters: nothing comes off.
#[derive(Debug)]
pub(super) struct Head {
    /// `[vocab, d]`, f32.
    pub(super) weight: Tensor,
    /// The same in bf16, for fast sweeps.
    pub(super) half: Option<Tensor>,
    /// `[vocab]`, f32.
    pub(super) bias: Option<Tensor>,
    /// The cap `c` of logits `c·tanh(z / c)`.
    pub(super) cap: Option<f64>,
}

/// What came off: the mean row of `W` `[d]` and a number off the head bias.
#[derive(Debug)]
pub(super) struct Level {
    row: Tensor,
    bias: f64,
}

impl Head {
    /// The first `vocab` rows of `unembed`, and what was taken off them.
    ///
    /// # Errors
    /// When libtorch fails.
    pub(super) fn new(unembed: &Unembed, vocab: usize, fast: bool) -> Result<(Self, Option<Level>), Error> {
        let cut = |t: &Tensor| t.f_narrow(0, 0, vocab as i64);
        let (weight, bias) = (cut(unembed.weight())?, unembed.bias().map(cut).transpose()?);
        let plain = |t: &Tensor| t.to_kind(Kind::Float).contiguous();
        let (weight, bias, level) = if unembed.soft_cap().is_some() {
            (plain(&weight), bias.as_ref().map(plain), None)
        } else {
            let row = mean_row(&weight)?;
            let middle =
                bias.as_ref().map(|b| Ok::<_, Error>(b.f_median()?.double_value(&[]))).transpose()?;
            let bias = bias.as_ref().map(|b| without(b, &Tensor::from(middle.unwrap_or(0.0))));
            let level = Level { row: row.shallow_clone(), bias: middle.unwrap_or(0.0) };
            (without(&weight, &row)?, bias.transpose()?, Some(level))
        };
        let half = fast.then(|| weight.f_to_kind(Kind::BFloat16)).transpose()?;
        Ok((Self { weight, half, bias, cap: unembed.soft_cap() }, level))
    }

    /// The same tensors, not copied.
    pub(super) fn shallow_clone(&self) -> Self {
        let same = |t: &Option<Tensor>| t.as_ref().map(Tensor::shallow_clone);
        let (weight, half, bias) = (self.weight.shallow_clone(), same(&self.half), same(&self.bias));
        Self { weight, half, bias, cap: self.cap }
    }

    /// Logits `[rows, width]` in f32 of the tokens from `first` on; in bf16 where `half` states are given.
    pub(super) fn logits(
        &self,
        n: &Tensor,
        half: Option<&Tensor>,
        first: i64,
        width: i64,
    ) -> Result<Tensor, Error> {
        let mut z = match (half, &self.half) {
            (Some(n), Some(w)) => n.f_mm(&w.f_narrow(0, first, width)?.tr())?.f_to_kind(Kind::Float)?,
            _ => n.f_mm(&self.weight.f_narrow(0, first, width)?.tr())?,
        };
        if let Some(bias) = &self.bias {
            z = z.f_add_(&bias.f_narrow(0, first, width)?)?;
        }
        self.capped(z)
    }

    /// Logits of one token per row (`ids`, -1 for none: NaN), summed in f64: `n [rows, d]`.
    pub(super) fn token_logits(&self, n: &Tensor, ids: &[i64]) -> Result<Vec<f64>, Error> {
        let index = Tensor::from_slice(ids).f_clamp_min(0)?.to_device(n.device());
        let rows = self.weight.f_index_select(0, &index)?.f_unsqueeze(1)?;
        let logits = self.picked_logits(&rows, n, &index, true)?.f_view([-1])?;
        let logits = Vec::<f64>::try_from(logits.to_device(Device::Cpu))?;
        Ok(logits.into_iter().zip(ids).map(|(z, id)| if *id < 0 { f64::NAN } else { z }).collect())
    }

    /// Logits `[rows, k]` in f64 of `k` tokens per row: `weights [rows, k, d]` are their rows of `W`, `ids [rows · k]`
    /// their ids. Sums are in f64 where `wide`, in f32 otherwise.
    pub(super) fn picked_logits(
        &self,
        weights: &Tensor,
        n: &Tensor,
        ids: &Tensor,
        wide: bool,
    ) -> Result<Tensor, Error> {
        let mut z = if wide {
            weights.f_mul(&n.f_unsqueeze(1)?)?.f_sum_dim_intlist(-1, false, Kind::Double)?
        } else {
            weights.f_matmul(&n.f_unsqueeze(-1)?)?.f_squeeze_dim(-1)?.f_to_kind(Kind::Double)?
        };
        if let Some(bias) = &self.bias {
            z = z.f_add(&bias.f_index_select(0, ids)?.f_view_as(&z)?.f_to_kind(Kind::Double)?)?;
        }
        self.capped(z)
    }

    fn capped(&self, z: Tensor) -> Result<Tensor, Error> {
        Ok(match self.cap {
            Some(cap) => (z / cap).f_tanh()? * cap,
            None => z,
        })
    }

    /// `E_v[w_v²]` `[d]`, f32: what a logit's size is made of.
    pub(super) fn mean_squares(&self) -> Result<Tensor, Error> {
        let squares = over_chunks(&self.weight, &|chunk| chunk.f_square())?;
        Ok(squares.f_div_scalar(self.weight.size()[0] as f64)?.f_to_kind(Kind::Float)?)
    }
}

impl Level {
    /// What to add to the logits of the rows of `n [rows, d]`.
    pub(super) fn of(&self, n: &Tensor) -> Result<Vec<f64>, Error> {
        let level = n.f_to_kind(Kind::Double)?.f_mv(&self.row)?.f_add_scalar(self.bias)?;
        Ok(Vec::<f64>::try_from(level.to_device(Device::Cpu))?)
    }
}

/// The mean over rows, f64.
fn mean_row(t: &Tensor) -> Result<Tensor, Error> {
    Ok(over_chunks(t, &|chunk| Ok(chunk.shallow_clone()))?.f_div_scalar(t.size()[0] as f64)?)
}

/// `Σ f(row)` over the rows of a matrix, in f64.
fn over_chunks(t: &Tensor, f: &dyn Fn(&Tensor) -> Result<Tensor, tch::TchError>) -> Result<Tensor, Error> {
    let mut sum = Tensor::f_zeros([t.size()[1]], (Kind::Double, t.device()))?;
    for (first, len) in chunks(t) {
        let chunk = t.f_narrow(0, first, len)?.f_to_kind(Kind::Double)?;
        sum += f(&chunk)?.f_sum_dim_intlist(0, false, Kind::Double)?;
    }
    Ok(sum)
}

/// `t` less `common`, in f64, as f32.
fn without(t: &Tensor, common: &Tensor) -> Result<Tensor, Error> {
    let out = Tensor::f_empty(t.size(), (Kind::Float, t.device()))?;
    let common = common.to_device(t.device());
    for (first, len) in chunks(t) {
        let part = t.f_narrow(0, first, len)?.f_to_kind(Kind::Double)?.f_sub(&common)?;
        out.f_narrow(0, first, len)?.f_copy_(&part)?;
    }
    Ok(out)
}

fn chunks(t: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let (rows, numbers) = (t.size()[0], t.numel() as i64);
    let step = (AT_ONCE * rows / numbers.max(1)).max(1);
    (0..rows).step_by(step as usize).map(move |first| (first, step.min(rows - first)))
}
