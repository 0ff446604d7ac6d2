use tch::Tensor;

use crate::{Error, Norm, fit::norm_backward};

/// What a masked-language-model head does before the unembedding: `norm(act(x Wᵀ + b))` (Devlin et al. 2019).
///
/// It belongs to the way out as the final norm does: whoever reads a state reads it through both.
#[derive(Debug)]
pub struct Transform {
    weight: Tensor,
    bias: Option<Tensor>,
    activation: HeadActivation,
    norm: Norm,
}

/// The non-linearity of a [`Transform`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadActivation {
    /// With the error function.
    Gelu,
    /// With the tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`.
    Silu,
}

impl HeadActivation {
    fn apply(self, u: &Tensor) -> Result<Tensor, Error> {
        Ok(match self {
            Self::Gelu => u.f_gelu("none")?,
            Self::GeluTanh => u.f_gelu("tanh")?,
            Self::Relu => u.f_relu()?,
            Self::Silu => u.f_silu()?,
        })
    }

    /// The gradient in `u` of a function of `act(u)` whose gradient there is `g`.
    fn backward(self, u: &Tensor, g: &Tensor) -> Result<Tensor, Error> {
        Ok(match self {
            Self::Gelu => u.f_gelu_backward(g, "none")?,
            Self::GeluTanh => u.f_gelu_backward(g, "tanh")?,
            Self::Relu => u.f_threshold_backward(g, 0.0)?,
            Self::Silu => u.f_silu_backward(g)?,
        })
    }
}

impl Transform {
    /// From `weight [d, d]`, `bias [d]` and the norm.
    ///
    /// # Errors
    /// When `weight` is not square.
    pub fn new(
        weight: Tensor,
        bias: Option<Tensor>,
        activation: HeadActivation,
        norm: Norm,
    ) -> Result<Self, Error> {
        let size = weight.size();
        if size.len() != 2 || size[0] != size[1] {
            return Err(Error::Shape {
                what: "head transform",
                expected: "[d_model, d_model]".into(),
                got: size,
            });
        }
        Ok(Self { weight, bias, activation, norm })
    }

    /// The norm, last of all.
    pub fn norm(&self) -> &Norm {
        &self.norm
    }

    /// The map `[d, d]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The map's offset `[d]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The same tensors, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            activation: self.activation,
            norm: self.norm.shallow_clone(),
        }
    }

    /// `[.., d]` to `[.., d]`.
    ///
    /// # Errors
    /// When `x` does not end in `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.norm.forward(&self.before_norm(x)?)
    }

    /// `act(x Wᵀ + b)`.
    pub(crate) fn before_norm(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.activation.apply(&self.linear(x)?)
    }

    /// States are read in f32 whatever the weights are stored in.
    fn linear(&self, x: &Tensor) -> Result<Tensor, Error> {
        let bias = self.bias.as_ref().map(|b| b.to_kind(x.kind()));
        Ok(x.f_linear(&self.weight.to_kind(x.kind()), bias.as_ref())?)
    }

    /// The gradient in `x [n, d]` of a function of [`Transform::forward`] whose gradient there is `g`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn backward(&self, x: &Tensor, g: &Tensor) -> Result<Tensor, Error> {
        let u = self.linear(x)?;
        let g = norm_backward(&self.norm, &self.activation.apply(&u)?, g)?;
        Ok(self.activation.backward(&u, &g)?.f_mm(&self.weight.to_kind(x.kind()))?)
    }

    /// The mean over `x [n, d]` of the derivative of [`Transform::before_norm`], `[d, d]`: out, in.
    pub(crate) fn mean_slope(&self, x: &Tensor) -> Result<Tensor, Error> {
        let u = self.linear(x)?;
        let slope =
            self.activation.backward(&u, &u.f_ones_like()?)?.f_mean_dim([0].as_slice(), true, u.kind())?;
        Ok(self.weight.to_kind(x.kind()).f_mul(&slope.tr())?)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::NormKind;

    /// Slopes by hand at 0: gelu 1/2, relu 0 (as torch has it), silu 1/2; and against autograd away from it.
    #[test]
    fn gradients_agree_with_autograd() {
        tch::manual_seed(4);
        let noise = |size: &[i64]| Tensor::randn(size, (Kind::Double, Device::Cpu));
        for activation in
            [HeadActivation::Gelu, HeadActivation::GeluTanh, HeadActivation::Relu, HeadActivation::Silu]
        {
            let norm = Norm::new(NormKind::Layer, Some(noise(&[5]) + 1.0), Some(noise(&[5])), 1e-3);
            let transform = Transform::new(noise(&[5, 5]), Some(noise(&[5])), activation, norm).unwrap();
            let (x, g) = (noise(&[7, 5]).set_requires_grad(true), noise(&[7, 5]));
            let sum = (transform.forward(&x).unwrap() * &g).sum(Kind::Double);
            let theirs = Tensor::run_backward(&[sum], &[&x], false, false).remove(0);
            let _no_grad = tch::no_grad_guard();
            let ours = transform.backward(&x, &g).unwrap();
            let off = (ours - &theirs).abs().max().double_value(&[]);
            // norm_backward takes means in f32.
            assert!(off < 1e-5 * theirs.abs().max().double_value(&[]), "{activation:?} {off}");
        }
    }

    #[test]
    fn a_transform_is_square() {
        let norm = Norm::new(NormKind::Layer, None, None, 1e-3);
        let weight = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu));
        assert!(Transform::new(weight, None, HeadActivation::Gelu, norm).is_err());
    }
}
