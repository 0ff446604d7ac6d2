//! The few layers every family is made of.

use tch::{Kind, Tensor};

use super::{ModelError, spec::Activation};

/// The type that sums and statistics are computed in: f64 stays, everything else becomes f32.
pub(super) fn wide(kind: Kind) -> Kind {
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

/// The causal mask `[query, key]` added to scores: 0 where a position may look, -inf where not. Queries are the last `seq`
/// of `start + seq` positions, keys are all of them. With a window, a position sees itself and the `window - 1` before it.
pub(super) fn causal_mask(
    start: i64,
    seq: i64,
    window: Option<usize>,
    like: &Tensor,
) -> Result<Tensor, ModelError> {
    let position = Tensor::arange(start + seq, (Kind::Int64, like.device()));
    let distance = position.narrow(0, start, seq).unsqueeze(1) - position.unsqueeze(0); // query - key
    let mut hidden = distance.f_lt(0)?;
    if let Some(window) = window {
        hidden = hidden.f_logical_or(&distance.f_ge(window as i64)?)?;
    }
    let mask = Tensor::f_zeros([seq, start + seq], (like.kind(), like.device()))?;
    Ok(mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?)
}

/// Alibi's slope of each head (Press et al. 2022), also where their number is no power of two.
pub(super) fn alibi_slopes(n_heads: usize) -> Vec<f32> {
    let powers = |n: usize, step: usize, count: usize| {
        let base = 2f64.powf(-(2f64.powf(-((n as f64).log2() - 3.0))));
        (0..count).map(move |i| base.powi((1 + step * i) as i32) as f32).collect::<Vec<_>>()
    };
    let whole = 1 << n_heads.ilog2();
    let mut slopes = powers(whole, 1, whole);
    slopes.extend(powers(2 * whole, 2, n_heads - whole));
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_by_hand() {
        // 4 heads: 2^-2, 2^-4, 2^-6, 2^-8 (the paper); 6 heads: two more from the odd powers for 8 heads, 2^-1 and 2^-3.
        assert_eq!(alibi_slopes(4), [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(alibi_slopes(6)[4..], [0.5, 0.125]);
    }

    #[test]
    fn a_window_of_two_sees_itself_and_one_before() {
        let like = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
        let mask = causal_mask(0, 3, Some(2), &like).unwrap();
        let seen = Vec::<bool>::try_from(mask.f_eq(0.0).unwrap().view(-1)).unwrap();
        assert_eq!(seen, [true, false, false, true, true, false, false, true, true]);
        // The last two of the three queries alone are the last two rows.
        let late = causal_mask(1, 2, Some(2), &like).unwrap();
        assert!(late.equal(&mask.narrow(0, 1, 2)));
    }
}
