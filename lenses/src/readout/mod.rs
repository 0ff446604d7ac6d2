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
//! so that no statistic and no gradient needs `[rows, vocab]` numbers at once: `(lse, e)` is attention with query `n`
//! and keys and values `W`, one pass over tiles of the vocabulary with a running maximum (Milakov & Gimelshein 2018).
//! Checked against dense f64 softmaxes and against autograd.

mod ask;
mod block;
mod capped;
mod corrected;
mod device;
mod guard;
mod head;
mod kernel;
mod marginal;
mod row;
mod teacher;
mod top;

use std::cell::Cell;

pub use ask::{Ask, Read, TokenRead};
pub use guard::Audit;
use head::{Head, Level};
use tch::{Device, Kind, Tensor};
pub use teacher::Teacher;

use crate::{Error, Unembed, Workers};

/// How logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    Exact,
    /// A bf16 sweep; the largest and the asked logits are computed again in f32, the sums corrected with them, and rows
    /// that this does not bring close enough swept again in f32. See [`Readout::audit`].
    Fast,
}

/// The unembedding, ready for sweeps.
#[derive(Debug)]
pub struct Readout {
    unembed: Unembed,
    head: Head,
    /// What was taken off the head; none under a soft cap.
    level: Option<Level>,
    /// `E_v[w_v²]` `[d]`, of a fast readout.
    mean_squares: Option<Tensor>,
    /// The head's bias as plain numbers.
    bias_host: Vec<f32>,
    workers: Workers,
    audit: Cell<Audit>,
}

impl Readout {
    /// Reads with `unembed`, over its first `vocab` tokens: the padding rows that some checkpoints have beyond the
    /// tokenizer's vocabulary can never be said and are masked. Uses `threads` threads (0: torch's number).
    ///
    /// [`Precision::Fast`] is what it says on every machine; see [`Readout::has_fast`] for whether it is fast.
    ///
    /// # Errors
    /// When `vocab` is 0 or more than there is.
    pub fn new(unembed: &Unembed, vocab: usize, precision: Precision, threads: usize) -> Result<Self, Error> {
        if vocab == 0 || vocab > unembed.vocab() {
            let expected = format!("at most {} tokens", unembed.vocab());
            return Err(Error::Shape { what: "vocabulary", expected, got: vec![vocab as i64] });
        }
        let fast = precision == Precision::Fast;
        let (head, level) = Head::new(unembed, vocab, fast)?;
        let bias_host =
            head.bias.as_ref().map(|b| Vec::<f32>::try_from(b.to_device(Device::Cpu))).transpose()?;
        Ok(Self {
            unembed: unembed.shallow_clone(),
            mean_squares: fast.then(|| head.mean_squares()).transpose()?,
            head,
            level,
            bias_host: bias_host.unwrap_or_default(),
            workers: Workers::new(threads)?,
            audit: Cell::default(),
        })
    }

    /// Whether the machine has bf16 arithmetic; without it a fast readout is slower than an exact one.
    pub fn has_fast(device: Device) -> bool {
        match device {
            Device::Cpu => cpu_has_bf16(),
            _ => true,
        }
    }

    /// The precision of sweeps.
    pub fn precision(&self) -> Precision {
        if self.head.half.is_some() { Precision::Fast } else { Precision::Exact }
    }

    /// What fast sweeps were found to be off by so far.
    pub fn audit(&self) -> Audit {
        self.audit.get()
    }

    /// Tokens in the vocabulary, padding rows not counted.
    pub fn vocab(&self) -> usize {
        self.head.weight.size()[0] as usize
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.head.weight.size()[1] as usize
    }

    /// Norm and head.
    pub fn unembed(&self) -> &Unembed {
        &self.unembed
    }

    /// `W [vocab, d_model]`, f32; without its mean row, unless there is a soft cap.
    pub fn weight(&self) -> &Tensor {
        &self.head.weight
    }

    /// The head bias `[vocab]`, f32; without its median, unless there is a soft cap.
    pub fn bias(&self) -> Option<&Tensor> {
        self.head.bias.as_ref()
    }

    /// What to add to the logits (and to their `logsumexp`) of every row of `n [rows, d_model]`, to have them as the
    /// model has them.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn level(&self, n: &Tensor) -> Result<Vec<f64>, Error> {
        match &self.level {
            Some(level) => level.of(n),
            None => Ok(vec![0.0; n.size()[0] as usize]),
        }
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
        self.unembed.normalize(&x.to_device(self.head.weight.device()).to_kind(Kind::Float))
    }

    /// One pass over the vocabulary for normalised states `n [rows, d_model]`.
    ///
    /// # Errors
    /// When shapes do not fit, an id is outside the vocabulary, a row's logits are not finite (named by its place), or
    /// fast sweeps turn out to be off by more than they may ([`Error::Imprecise`]).
    pub fn sweep(&self, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
        self.sweep_in(self.precision(), n, ask)
    }

    /// [`Readout::sweep`] in f32, whatever the readout's own precision: for what much else is compared with.
    ///
    /// # Errors
    /// As [`Readout::sweep`].
    pub fn sweep_exactly(&self, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
        self.sweep_in(Precision::Exact, n, ask)
    }

    fn sweep_in(&self, precision: Precision, n: &Tensor, ask: Ask<'_>) -> Result<Read, Error> {
        self.check(n, ask)?;
        let n = n.to_device(self.head.weight.device()).to_kind(Kind::Float).contiguous();
        if self.soft_cap().is_some() && ask.expectation && ask.marginal.is_some() {
            // The cap's slope is in the terms of the one and not of the other.
            let only = Ask { marginal: ask.marginal, ..Ask::default() };
            let marginal = self.sweep_in(precision, &n, only)?.marginal;
            return Ok(Read { marginal, ..self.sweep_in(precision, &n, Ask { marginal: None, ..ask })? });
        }
        let read = match precision {
            Precision::Exact => self.pass(&n, ask, precision)?,
            Precision::Fast => {
                guard::sweep(self, &n, ask, &|n, ask, precision| self.pass(n, ask, precision))?
            }
        };
        match read.lse.iter().zip(&read.mean_logit).position(|(lse, mean)| !(lse + mean).is_finite()) {
            Some(row) => Err(Error::NonFinite { what: "logits".into(), row }),
            None => Ok(read),
        }
    }

    /// One sweep in one precision, unguarded.
    fn pass(&self, n: &Tensor, ask: Ask<'_>, precision: Precision) -> Result<Read, Error> {
        match self.head.weight.device() {
            Device::Cpu => block::sweep(self, n, ask, precision),
            _ => device::sweep(self, n, ask, precision),
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

    /// Logits of one token per row (`ids`, -1 for none: NaN) of `n [rows, d]`, relative as [`Read::lse`] is.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn token_logits(&self, n: &Tensor, ids: &[i64]) -> Result<Vec<f64>, Error> {
        self.head.token_logits(n, ids)
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
