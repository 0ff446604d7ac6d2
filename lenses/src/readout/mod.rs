//! The readout engine: rows of normalised states to statistics of `softmax(W n + b)`, tile by tile.
//!
//! With `lse = logsumexp(W n + b)` and `e = softmax(W n + b) · W` (`d_model` numbers),
//!
//! ```text
//! KL(p ‖ q) = lse_q - lse_p - e_p · (n_q - n_p)      the bias cancels
//! d KL / d n_q = e_q - e_p
//! entropy = lse - E[z],   CE(y) = lse - z_y
//! ```
//!
//! so that no statistic and no gradient needs `[rows, vocab]` numbers at once: `(lse, e)` is attention with query `n` and
//! keys and values `W`, one pass over tiles of the vocabulary with a running maximum (Milakov & Gimelshein 2018).
//! Checked against dense f64 softmaxes and against autograd.

mod block;
mod capped;
mod device;
mod kernel;
mod marginal;
mod teacher;
mod top;

use tch::{Device, Kind, Tensor};
pub use teacher::Teacher;

use crate::{Error, Unembed, Workers};

/// How logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    Exact,
    /// A bf16 sweep; the largest and the asked logits are computed again in f32, and the sums corrected with them.
    Fast,
}

/// What to find out about each row beyond `lse`, `E[z]` and the likeliest token.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ask<'a> {
    /// `e = softmax · W`.
    pub expectation: bool,
    /// Lists of one token id per row (-1: none), whose logit and rank are wanted.
    pub tokens: &'a [&'a [i64]],
    /// Weights of the rows in a sum of their distributions.
    pub marginal: Option<&'a [f32]>,
}

/// What a sweep found, one entry per row.
#[derive(Debug, Default)]
pub struct Read {
    /// `logsumexp` of the logits.
    pub lse: Vec<f64>,
    /// Mean logit under the distribution itself; the entropy is `lse - mean_logit`.
    pub mean_logit: Vec<f64>,
    /// The likeliest token; of equals the one with the smallest id.
    pub argmax: Vec<i64>,
    /// Per list of [`Ask::tokens`].
    pub tokens: Vec<TokenRead>,
    /// `[rows, d_model]`, f32; under a soft cap the gradient of `lse` in `n`.
    pub expectation: Option<Tensor>,
    /// `Σ weight · softmax`, one number per token of the vocabulary.
    pub marginal: Option<Vec<f64>>,
}

/// Logits and ranks of one list of tokens, one entry per row; NaN and -1 where no token was asked.
#[derive(Debug, Default, Clone)]
pub struct TokenRead {
    /// The token's logit.
    pub logit: Vec<f64>,
    /// How many tokens have a larger logit.
    pub rank: Vec<i64>,
}

impl Read {
    /// Entropies in nats.
    pub fn entropy(&self) -> Vec<f64> {
        self.lse.iter().zip(&self.mean_logit).map(|(lse, mean)| lse - mean).collect()
    }

    /// Cross-entropies in nats of the tokens of list `list`; NaN where none was asked.
    pub fn ce(&self, list: usize) -> Vec<f64> {
        self.lse.iter().zip(&self.tokens[list].logit).map(|(lse, logit)| lse - logit).collect()
    }

    fn append(&mut self, part: Self) {
        self.lse.extend(part.lse);
        self.mean_logit.extend(part.mean_logit);
        self.argmax.extend(part.argmax);
        self.tokens.resize(part.tokens.len(), TokenRead::default());
        for (all, part) in self.tokens.iter_mut().zip(part.tokens) {
            all.logit.extend(part.logit);
            all.rank.extend(part.rank);
        }
        match (&mut self.marginal, part.marginal) {
            (Some(all), Some(part)) => all.iter_mut().zip(part).for_each(|(all, part)| *all += part),
            (all, part) => *all = part,
        }
    }
}

/// The unembedding, ready for sweeps.
#[derive(Debug)]
pub struct Readout {
    unembed: Unembed,
    /// `W [vocab, d]` in f32, rows beyond the tokenizer's vocabulary cut off.
    weight: Tensor,
    /// `W` in bf16, for fast sweeps.
    half: Option<Tensor>,
    bias: Option<Tensor>,
    /// The bias as plain numbers.
    bias_host: Vec<f32>,
    workers: Workers,
}

impl Readout {
    /// Reads with `unembed`, over its first `vocab` tokens: the padding rows that some checkpoints have beyond the
    /// tokenizer's vocabulary can never be said and are masked. Uses `threads` threads (0: torch's number).
    ///
    /// # Errors
    /// When `vocab` is 0 or more than there is.
    pub fn new(unembed: &Unembed, vocab: usize, precision: Precision, threads: usize) -> Result<Self, Error> {
        if vocab == 0 || vocab > unembed.vocab() {
            let expected = format!("at most {} tokens", unembed.vocab());
            return Err(Error::Shape { what: "vocabulary", expected, got: vec![vocab as i64] });
        }
        let cut = |t: &Tensor| t.narrow(0, 0, vocab as i64).to_kind(Kind::Float).contiguous();
        let weight = cut(unembed.weight());
        let half = (precision == Precision::Fast && Self::has_fast(weight.device()))
            .then(|| weight.to_kind(Kind::BFloat16));
        let bias = unembed.bias().map(cut);
        let bias_host = bias.as_ref().map(|b| Vec::<f32>::try_from(b.to_device(Device::Cpu))).transpose()?;
        let workers = Workers::new(threads)?;
        let bias_host = bias_host.unwrap_or_default();
        Ok(Self { unembed: unembed.shallow_clone(), weight, half, bias, bias_host, workers })
    }

    /// Whether bf16 arithmetic is there; without it a fast sweep is an exact one.
    pub fn has_fast(device: Device) -> bool {
        match device {
            Device::Cpu => cpu_has_bf16(),
            _ => true,
        }
    }

    /// The precision in use.
    pub fn precision(&self) -> Precision {
        if self.half.is_some() { Precision::Fast } else { Precision::Exact }
    }

    /// Tokens in the vocabulary, padding rows not counted.
    pub fn vocab(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.weight.size()[1] as usize
    }

    /// Norm and head.
    pub fn unembed(&self) -> &Unembed {
        &self.unembed
    }

    /// `W [vocab, d_model]`, f32.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The threads that sweeps run on.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The final norm of states `x [rows, d_model]`, in f32.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn normalize(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.unembed.normalize(&x.to_device(self.weight.device()).to_kind(Kind::Float))
    }

    /// One pass over the vocabulary for normalised states `n [rows, d_model]`.
    ///
    /// # Errors
    /// When shapes do not fit, an id is outside the vocabulary, or a row's logits are not finite (named by its place).
    pub fn sweep(&self, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
        self.check(n, ask)?;
        let n = n.to_device(self.weight.device()).to_kind(Kind::Float).contiguous();
        if self.soft_cap().is_some() && ask.expectation && ask.marginal.is_some() {
            // The cap's slope is in the terms of the one and not of the other.
            let marginal = self.sweep(&n, Ask { marginal: ask.marginal, ..Ask::default() })?.marginal;
            return Ok(Read { marginal, ..self.sweep(&n, Ask { marginal: None, ..ask })? });
        }
        let read = if self.weight.device() == Device::Cpu {
            block::sweep(self, &n, ask)?
        } else {
            device::sweep(self, &n, ask)?
        };
        match read.lse.iter().zip(&read.mean_logit).position(|(lse, mean)| !(lse + mean).is_finite()) {
            Some(row) => Err(Error::NonFinite { what: "logits".into(), row }),
            None => Ok(read),
        }
    }

    fn check(&self, n: &Tensor, ask: Ask<'_>) -> Result<(), Error> {
        let (size, d) = (n.size(), self.d_model() as i64);
        if size.len() != 2 || size[1] != d {
            return Err(Error::Shape { what: "states", expected: format!("[rows, {d}]"), got: size });
        }
        let lists = ask.tokens.iter().map(|list| list.len()).chain(ask.marginal.map(<[f32]>::len));
        for len in lists {
            if len as i64 != size[0] {
                let expected = format!("one per row of {}", size[0]);
                return Err(Error::Shape { what: "tokens or weights", expected, got: vec![len as i64] });
            }
        }
        let vocab = self.vocab() as i64;
        match ask.tokens.iter().flat_map(|list| list.iter()).find(|id| **id < -1 || **id >= vocab) {
            Some(id) => Err(Error::Token { id: *id, vocab }),
            None => Ok(()),
        }
    }

    fn soft_cap(&self) -> Option<f64> {
        self.unembed.soft_cap()
    }

    /// Logits in f32 of one token per row (`ids`, -1 for none: NaN): `n [rows, d]`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn token_logits(&self, n: &Tensor, ids: &[i64]) -> Result<Vec<f64>, Error> {
        let index = Tensor::from_slice(ids).f_clamp_min(0)?.to_device(n.device());
        let rows = self.weight.f_index_select(0, &index)?;
        let mut logits = rows.f_mul(n)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        if let Some(bias) = &self.bias {
            logits = logits.f_add(&bias.f_index_select(0, &index)?.to_kind(Kind::Double))?;
        }
        if let Some(cap) = self.soft_cap() {
            logits = (logits / cap).f_tanh()? * cap;
        }
        let logits = Vec::<f64>::try_from(logits.to_device(Device::Cpu))?;
        Ok(logits.into_iter().zip(ids).map(|(z, id)| if *id < 0 { f64::NAN } else { z }).collect())
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests;
