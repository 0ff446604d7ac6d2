//! The few layers every family is made of.

use layerscope_lenses::Norm;
use tch::{Kind, Tensor};

use super::ModelError;

/// The type that sums and statistics are computed in: f64 stays, everything else becomes f32.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// A linear map `x Wᵀ + b`: `weight [out, in]`, `bias [out]`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }

    /// A tensor of its weight's type, on its device, to be filled.
    pub(super) fn room(&self, size: &[i64]) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_zeros(size, (self.weight.kind(), self.weight.device()))?)
    }
}

/// A norm of queries or keys `[batch, seq, head, d_head]`.
#[derive(Debug)]
pub(super) enum HeadNorm {
    /// Of each head.
    Head(Norm),
    /// Of each head, then times weights `[head, d_head]`.
    HeadByItself(Norm, Tensor),
    /// Of all heads at once.
    All(Norm),
}

impl HeadNorm {
    /// To the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Head(norm) => norm.forward(x)?,
            Self::HeadByItself(norm, weight) => norm.forward(x)?.f_mul(weight)?.to_kind(x.kind()),
            Self::All(norm) => norm.forward(&x.f_flatten(2, 3)?)?.f_view(x.size().as_slice())?,
        })
    }
}

/// `cap · tanh(x / cap)`.
pub(super) fn soft_cap(x: &Tensor, cap: f64) -> Tensor {
    (x / cap).tanh_() * cap
}
