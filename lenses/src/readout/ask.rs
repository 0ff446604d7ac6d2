//! What a sweep is asked, and what it found.

use tch::{Kind, Tensor};

use crate::Error;

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
///
/// Without a soft cap a number added to all logits of a row changes nothing that a lens is asked. Logits here are
/// relative to the head's mean ([`crate::Readout::level`] gives what to add), so that such a number costs no digits.
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
    /// `[rows, d_model]`, f32, with the head's mean taken off each row of `W`; under a soft cap the gradient of `lse`
    /// in `n`.
    pub expectation: Option<Tensor>,
    /// `Σ weight · softmax`, one number per token of the vocabulary.
    pub marginal: Option<Vec<f64>>,
    /// Rows that a bf16 sweep cannot vouch for; they have no part in `marginal`.
    pub(super) doubtful: Vec<bool>,
}

/// Logits and ranks of one list of tokens, one entry per row; NaN and -1 where no token was asked.
#[derive(Debug, Default, Clone)]
pub struct TokenRead {
    /// The token's logit, relative as [`Read::lse`] is.
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

    /// Adds the rows of `part` at the end.
    pub(super) fn append(&mut self, part: Self) {
        self.lse.extend(part.lse);
        self.mean_logit.extend(part.mean_logit);
        self.argmax.extend(part.argmax);
        self.doubtful.extend(part.doubtful);
        self.tokens.resize(part.tokens.len(), TokenRead::default());
        for (all, part) in self.tokens.iter_mut().zip(part.tokens) {
            all.logit.extend(part.logit);
            all.rank.extend(part.rank);
        }
        self.add_marginal(part.marginal);
    }

    /// Puts the rows of `part` in the place of those at `rows`; marginals are added.
    pub(super) fn put(&mut self, rows: &[usize], part: Self) -> Result<(), Error> {
        for (from, &to) in rows.iter().enumerate() {
            self.lse[to] = part.lse[from];
            self.mean_logit[to] = part.mean_logit[from];
            self.argmax[to] = part.argmax[from];
            for (all, part) in self.tokens.iter_mut().zip(&part.tokens) {
                (all.logit[to], all.rank[to]) = (part.logit[from], part.rank[from]);
            }
        }
        if let (Some(all), Some(part)) = (&mut self.expectation, part.expectation) {
            *all = all.f_index_copy(0, &places(rows).to_device(part.device()), &part)?;
        }
        self.add_marginal(part.marginal);
        Ok(())
    }

    /// Room for `rows` rows of the same kind as `like`'s.
    pub(super) fn blank(rows: usize, like: &Self) -> Result<Self, Error> {
        let token = TokenRead { logit: vec![f64::NAN; rows], rank: vec![-1; rows] };
        let width = |e: &Tensor| (e.size()[1], e.device());
        let room = |(d, device)| Tensor::f_zeros([rows as i64, d], (Kind::Float, device));
        Ok(Self {
            lse: vec![f64::NAN; rows],
            mean_logit: vec![f64::NAN; rows],
            argmax: vec![0; rows],
            tokens: vec![token; like.tokens.len()],
            expectation: like.expectation.as_ref().map(width).map(room).transpose()?,
            marginal: None,
            doubtful: Vec::new(),
        })
    }

    fn add_marginal(&mut self, part: Option<Vec<f64>>) {
        match (&mut self.marginal, part) {
            (Some(all), Some(part)) => all.iter_mut().zip(part).for_each(|(all, part)| *all += part),
            (all @ None, part) => *all = part,
            (Some(_), None) => {}
        }
    }
}

/// Rows as an index.
pub(super) fn places(rows: &[usize]) -> Tensor {
    Tensor::from_slice(&rows.iter().map(|row| *row as i64).collect::<Vec<_>>())
}
