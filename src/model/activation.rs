//! The MLP's non-linearities.

use tch::Tensor;

use super::ModelError;

/// The MLP's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// With the error function.
    Gelu,
    /// With the tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (Nemotron).
    Relu2,
    /// `x · sigmoid(x)`.
    Silu,
    /// A parabola above zero and an exponential below, with weights of each MLP's own (Huang & Schlag 2024; Apertus).
    Xielu,
}

impl Activation {
    /// From the name transformers uses.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
                Some(Self::GeluTanh)
            }
            "relu" => Some(Self::Relu),
            "relu2" => Some(Self::Relu2),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }
}

/// An activation, with the weights of the one that has some.
#[derive(Debug)]
pub(super) enum Nonlinearity {
    Gelu,
    GeluTanh,
    Relu,
    Relu2,
    Silu,
    Xielu(Xielu),
}

/// `α_p x² + β x` above zero, `α_n (exp(min(x, ε)) - 1 - x) + β x` below.
#[derive(Debug)]
pub(super) struct Xielu {
    /// Curvature above zero.
    pub(super) alpha_p: Tensor,
    /// Depth below zero.
    pub(super) alpha_n: Tensor,
    /// Slope at zero.
    pub(super) beta: Tensor,
    /// Just below zero.
    pub(super) eps: Tensor,
}

impl Nonlinearity {
    /// `activation`; `weights` are read for the one that has some.
    pub(super) fn new(
        activation: Activation,
        weights: impl FnOnce() -> Result<Xielu, ModelError>,
    ) -> Result<Self, ModelError> {
        Ok(match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::Relu => Self::Relu,
            Activation::Relu2 => Self::Relu2,
            Activation::Silu => Self::Silu,
            Activation::Xielu => Self::Xielu(weights()?),
        })
    }

    /// Elementwise.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluTanh => x.f_gelu("tanh")?,
            Self::Relu => x.f_relu()?,
            // Not in place: on the way back a recorded pass needs what relu made.
            Self::Relu2 => x.f_relu()?.f_square()?,
            Self::Silu => x.f_silu()?,
            Self::Xielu(Xielu { alpha_p, alpha_n, beta, eps }) => {
                let above = x.f_square()?.f_mul(alpha_p)?;
                let below = x.f_minimum(eps)?.f_expm1()?.f_sub(x)?.f_mul(alpha_n)?;
                above.f_where_self(&x.f_gt(0.0)?, &below)?.f_add(&x.f_mul(beta)?)?
            }
        })
    }

    /// The same in the memory of `x`, which nobody else may hold.
    pub(super) fn apply_in_place(&self, mut x: Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Gelu => x.f_gelu_("none")?,
            Self::GeluTanh => x.f_gelu_("tanh")?,
            Self::Relu => x.f_relu_()?,
            Self::Relu2 => x.f_relu_()?.f_square()?,
            Self::Silu => x.f_silu_()?,
            Self::Xielu(_) => self.apply(&x)?,
        })
    }
    /// `activation(x) / x`, without the division: what relevance is passed on by.
    ///
    /// # Errors
    /// For activations whose factor is not a smooth function at zero.
    pub(super) fn factor(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Silu => x.f_sigmoid()?,
            Self::Gelu => (x * std::f64::consts::FRAC_1_SQRT_2).f_erf()?.f_add_scalar(1.0)? * 0.5,
            Self::GeluTanh => {
                let inner = x + x.f_pow_tensor_scalar(3)? * 0.044_715;
                let scale = (2.0 / std::f64::consts::PI).sqrt();
                (inner * scale).f_tanh()?.f_add_scalar(1.0)? * 0.5
            }
            Self::Relu | Self::Relu2 | Self::Xielu(_) => {
                return Err(ModelError::Input("relevance passes through SiLU and GELU only".into()));
            }
        })
    }
}
