//! The few layers every family is made of.

use tch::{Kind, Tensor};

use super::{ModelError, spec::Activation};

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
}

impl Activation {
    /// Elementwise.
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluTanh => x.f_gelu("tanh")?,
            Self::Relu => x.f_relu()?,
            Self::Silu => x.f_silu()?,
        })
    }

    /// The same in the memory of `x`, which nobody else may hold.
    pub(super) fn apply_in_place(self, mut x: Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Gelu => x.f_gelu_("none")?,
            Self::GeluTanh => x.f_gelu_("tanh")?,
            Self::Relu => x.f_relu_()?,
            Self::Silu => x.f_silu_()?,
        })
    }
}

/// `cap · tanh(x / cap)`.
pub(super) fn soft_cap(x: &Tensor, cap: f64) -> Tensor {
    (x / cap).tanh_() * cap
}
