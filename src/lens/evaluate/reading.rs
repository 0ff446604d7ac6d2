//! What one lens at one layer says of the rows of a batch, before it becomes sums.

use layerscope_lenses::{Ask, Error, LayerIndex, Lens, Read, Readout, Teacher};
use tch::Tensor;

use super::EvalError;
use crate::states::Ahead;

/// One entry per row that has a model prediction at the lens's horizon. Natural logarithms.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The rows of the batch, ascending.
    pub rows: Vec<usize>,
    /// Entropy of the prediction.
    pub entropy: Vec<f64>,
    /// KL(model ‖ lens).
    pub kl: Vec<f64>,
    /// The likeliest token.
    pub top: Vec<i64>,
    /// Its probability.
    pub top_prob: Vec<f64>,
    /// The model's likeliest token.
    pub finals: Vec<i64>,
    /// Its rank in the lens's order; 0 is first.
    pub rank_of_final: Vec<i64>,
    /// The true token; -1 where the document window ends before it.
    pub tokens: Vec<i64>,
    /// Cross-entropy of the true token; NaN where there is none.
    pub ce: Vec<f64>,
    /// Its rank; -1 where there is none.
    pub rank: Vec<i64>,
    /// `-log p_model` of the lens's likeliest token.
    pub surprisal: Vec<f64>,
}

/// The prediction of the model itself at every row.
pub(super) struct ModelReading {
    pub(super) teacher: Teacher,
    pub(super) reading: Reading,
}

impl ModelReading {
    /// Reads normalised final states `n` for the tokens `next`.
    pub(super) fn of(n: Tensor, next: &[i64], readout: &Readout) -> Result<Self, EvalError> {
        let ask = Ask { expectation: true, tokens: &[next], marginal: None };
        let mut read = readout.sweep_exactly(&n, ask).map_err(EvalError::Teacher)?;
        let (entropy, ce) = (read.entropy(), read.ce(0));
        let teacher = Teacher::new(n, &mut read).map_err(EvalError::Teacher)?; // takes what it keeps
        let sure = readout.token_logits(&teacher.n, &read.argmax).map_err(EvalError::Teacher)?;
        let surprisal: Vec<f64> = teacher.lse.iter().zip(&sure).map(|(lse, z)| lse - z).collect();
        let rows = next.len();
        let reading = Reading {
            rows: (0..rows).collect(),
            entropy,
            kl: vec![0.0; rows],
            top_prob: surprisal.iter().map(|s| (-s).exp()).collect(),
            finals: read.argmax.clone(),
            rank_of_final: vec![0; rows],
            tokens: next.to_vec(),
            ce,
            rank: read.tokens[0].rank.clone(),
            top: read.argmax,
            surprisal,
        };
        Ok(Self { teacher, reading })
    }

    /// The model's distributions, summed with these weights of rows.
    pub(super) fn marginal(&self, readout: &Readout, weights: &[f32]) -> Result<Option<Vec<f64>>, EvalError> {
        let ask = Ask { marginal: Some(weights), ..Ask::default() };
        Ok(readout.sweep(&self.teacher.n, ask).map_err(EvalError::Teacher)?.marginal)
    }
}

impl Reading {
    /// What `lens` makes of `states [rows, d_model]` of `layer`; with weights of rows its distributions summed by them
    /// as well.
    pub(super) fn of_lens(
        lens: &dyn Lens,
        (layer, states): (LayerIndex, &Tensor),
        own: &ModelReading,
        ahead: &Ahead,
        readout: &Readout,
        marginal: Option<&[f32]>,
    ) -> Result<(Self, Option<Vec<f64>>), Error> {
        if ahead.rows.is_empty() {
            return Ok((Self::default(), None));
        }
        let selected;
        let (states, teacher) = if lens.horizon().0 == 1 {
            (states.shallow_clone(), &own.teacher)
        } else {
            selected = own.teacher.select(&ahead.teacher)?;
            let index = Tensor::from_slice(&ahead.rows).to_device(states.device());
            (states.f_index_select(0, &index)?, &selected)
        };
        let finals: Vec<i64> = ahead.teacher.iter().map(|row| own.reading.top[*row as usize]).collect();
        let n = readout.normalize(&lens.transform(layer, &states)?)?;
        let tokens = [ahead.tokens.as_slice(), &finals];
        let ask = Ask { tokens: &tokens, marginal, expectation: false };
        let mut read = readout.sweep(&n, ask)?;
        let kl = teacher.kl(readout, &n, &read.lse)?;
        let marginal = read.marginal.take();
        let log_prob = |rows: &Tensor, lse: &[f64], read: &Read| -> Result<Vec<f64>, Error> {
            let logits = readout.token_logits(rows, &read.argmax)?;
            Ok(logits.iter().zip(lse).map(|(z, lse)| z - lse).collect())
        };
        let reading = Self {
            rows: ahead.rows.iter().map(|row| *row as usize).collect(),
            entropy: read.entropy(),
            kl,
            top_prob: log_prob(&n, &read.lse, &read)?.iter().map(|l| l.exp()).collect(),
            surprisal: log_prob(&teacher.n, &teacher.lse, &read)?.iter().map(|l| -l).collect(),
            rank_of_final: read.tokens[1].rank.clone(),
            finals,
            tokens: ahead.tokens.clone(),
            ce: read.ce(0),
            rank: read.tokens[0].rank.clone(),
            top: read.argmax,
        };
        Ok((reading, marginal))
    }

    /// The entries of chosen rows.
    pub(super) fn only(self, chosen: &[bool]) -> Self {
        let places: Vec<usize> = (0..self.rows.len()).filter(|i| chosen[self.rows[*i]]).collect();
        Self {
            rows: at(&self.rows, &places),
            entropy: at(&self.entropy, &places),
            kl: at(&self.kl, &places),
            top: at(&self.top, &places),
            top_prob: at(&self.top_prob, &places),
            finals: at(&self.finals, &places),
            rank_of_final: at(&self.rank_of_final, &places),
            tokens: at(&self.tokens, &places),
            ce: at(&self.ce, &places),
            rank: at(&self.rank, &places),
            surprisal: at(&self.surprisal, &places),
        }
    }

    /// Whether the true token of entry `i` is known.
    pub fn known(&self, i: usize) -> bool {
        self.tokens[i] >= 0
    }

    /// Whether the lens's first token is the model's, at entry `i`.
    pub fn agrees(&self, i: usize) -> bool {
        self.top[i] == self.finals[i]
    }
}

/// The entries at these places.
fn at<T: Copy>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|i| all[*i]).collect()
}
