//! What is taken apart: logits, and differences of logits, as directions of the unembedding.

use layerscope_lenses::Unembed;
use tch::{Kind, Tensor};

use super::AttributionError;
use crate::{
    hook::{Capture, HookPoint},
    model::Model,
};

/// Rows of the unembedding whose inner products a head takes together: the vocabulary in pieces.
const AT_ONCE: i64 = 256;

/// A quantity per row that is linear in the logits before any soft cap: `⟨w, n⟩ + b` of what the head reads, n.
#[derive(Debug)]
pub struct Targets {
    /// `w [rows, d_model]`, in the model's number type.
    pub(super) weight: Tensor,
    /// `b [rows]`, f64; none where the head has no bias.
    pub(super) bias: Option<Tensor>,
}

impl Targets {
    /// The logits of the tokens `ids`, one per row.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn tokens(unembed: &Unembed, ids: &[i64]) -> Result<Self, AttributionError> {
        let vocab = unembed.vocab() as i64;
        if let Some(&id) = ids.iter().find(|id| !(0..vocab).contains(*id)) {
            return Err(layerscope_lenses::Error::Token { id, vocab }.into());
        }
        let index = Tensor::from_slice(ids).to_device(unembed.weight().device());
        let bias = unembed.bias().map(|bias| bias.f_index_select(0, &index)?.f_to_kind(Kind::Double));
        Ok(Self { weight: unembed.weight().f_index_select(0, &index)?, bias: bias.transpose()? })
    }

    /// The mean logit of the first `vocab` tokens, one row.
    ///
    /// # Errors
    /// When there are not so many tokens.
    pub fn mean(unembed: &Unembed, vocab: usize) -> Result<Self, AttributionError> {
        let all = unembed.weight().f_narrow(0, 0, vocab as i64)?;
        let mean = all.f_mean_dim(0, true, Kind::Double)?.f_to_kind(all.kind())?;
        let bias =
            unembed.bias().map(|bias| bias.f_narrow(0, 0, vocab as i64)?.f_mean_dim(0, true, Kind::Double));
        Ok(Self { weight: mean, bias: bias.transpose()? })
    }

    /// These less those of `other`, row by row.
    ///
    /// # Errors
    /// When they are not as many.
    pub fn less(&self, other: &Self) -> Result<Self, AttributionError> {
        let (rows, others) = (self.rows(), other.rows());
        if rows != others {
            return Err(AttributionError::Rows(format!("{rows} targets less {others}")));
        }
        let bias = self.bias.as_ref().zip(other.bias.as_ref()).map(|(a, b)| a.f_sub(b));
        Ok(Self { weight: self.weight.f_sub(&other.weight)?, bias: bias.transpose()? })
    }

    /// Those of several, one after the other.
    ///
    /// # Errors
    /// When they are of different heads.
    pub fn concat(parts: &[Self]) -> Result<Self, AttributionError> {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Option<Vec<&Tensor>> = parts.iter().map(|part| part.bias.as_ref()).collect();
        let bias = biases.map(|biases| Tensor::f_cat(&biases, 0)).transpose()?;
        Ok(Self { weight: Tensor::f_cat(&weights, 0)?, bias })
    }

    /// The one that this is, in each of `rows` rows.
    ///
    /// # Errors
    /// When there are several.
    pub fn repeated(&self, rows: usize) -> Result<Self, AttributionError> {
        let bias = self.bias.as_ref().map(|bias| bias.f_expand([rows as i64], false)).transpose()?;
        Ok(Self { weight: self.weight.f_expand([rows as i64, -1], false)?, bias })
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// The quantities of `n [rows, d_model]`, what the head reads; f64.
    pub(super) fn of(&self, n: &Tensor) -> Result<Tensor, tch::TchError> {
        let product = dot(n, &self.weight)?;
        match &self.bias {
            Some(bias) => product.f_add(bias),
            None => Ok(product),
        }
    }
}

/// Inner products of the rows of two `[rows, d]`, or of one and `[d]`: `[rows]`, summed in f64.
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor, tch::TchError> {
    a.f_mul(b)?.f_sum_dim_intlist(-1, false, Kind::Double)
}

/// The likeliest of the first `vocab` tokens at `rows` of `ids [batch, seq]`, counted text after text.
///
/// # Errors
/// What the model says.
pub fn likeliest(
    model: &Model,
    ids: &Tensor,
    rows: &[i64],
    vocab: usize,
) -> Result<Vec<i64>, AttributionError> {
    let _no_grad = tch::no_grad_guard();
    let mut capture = Capture::new([HookPoint::FinalNormalized].into_iter().collect());
    let _none = model.forward(ids, &mut capture)?;
    let Some(read) = capture.get(HookPoint::FinalNormalized) else {
        return Err(AttributionError::Rows("the final norm was not computed".into()));
    };
    let index = Tensor::from_slice(rows).to_device(read.device());
    let read = read.f_flatten(0, 1)?.f_index_select(0, &index)?;
    let mut all = Vec::with_capacity(rows.len());
    for some in read.split(AT_ONCE, 0) {
        let logits = model.unembed().head(&some)?.f_narrow(-1, 0, vocab as i64)?;
        all.extend(Vec::<i64>::try_from(logits.f_argmax(-1, false)?.to_device(tch::Device::Cpu))?);
    }
    Ok(all)
}
