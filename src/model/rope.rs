//! Rotary position embeddings (Su et al. 2021), with linear and llama3 frequency scaling.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::{ModelError, nn::wide};

/// How a model rotates queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How many leading dimensions of a head are rotated.
    pub rotary_dim: usize,
    /// Pairs are neighbours `(2i, 2i + 1)`, as in GPT-J, instead of `(i, i + rotary_dim / 2)`.
    pub interleaved: bool,
    /// How frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Frequency scaling, with the names of transformers.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between mixed.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_context: f64,
    },
}

/// Cosines and sines of every position, `[n_ctx, 1, rotary_dim]`, the pairs laid out as in the head.
#[derive(Debug)]
pub(super) struct Rope {
    rotary_dim: i64,
    interleaved: bool,
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for positions `0..n_ctx`. Computed in f32 step by step as transformers does, because at
    /// position 8000 one rounding of a frequency is already visible in an angle.
    pub(super) fn new(spec: &RopeSpec, n_ctx: usize, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let r = spec.rotary_dim as i64;
        let wide = wide(kind);
        let exponent = Tensor::arange_start_step(0, r, 2, (wide, Device::Cpu)) / r as f64;
        let theta = Tensor::from(spec.theta).to_kind(wide);
        let inv_freq = scaled(&theta.f_pow(&exponent)?.f_reciprocal()?, &spec.scaling)?;
        let positions = Tensor::arange(n_ctx as i64, (wide, Device::Cpu));
        let angles = positions.f_outer(&inv_freq)?; // [n_ctx, r/2]
        let paired = |x: Tensor| {
            let wide = if spec.interleaved {
                x.repeat_interleave_self_int(2, -1, None)
            } else {
                Tensor::cat(&[&x, &x], -1)
            };
            wide.unsqueeze(1).to_kind(kind).to_device(device)
        };
        Ok(Self {
            rotary_dim: r,
            interleaved: spec.interleaved,
            cos: paired(angles.cos()),
            sin: paired(angles.sin()),
        })
    }

    /// Rotates `x [batch, seq, head, d_head]`, whose first position is `start`.
    pub(super) fn rotate(&self, x: &Tensor, start: i64) -> Result<Tensor, ModelError> {
        let (seq, d_head, r) = (x.size()[1], x.size()[3], self.rotary_dim);
        let (cos, sin) = (self.cos.f_narrow(0, start, seq)?, self.sin.f_narrow(0, start, seq)?);
        let part = x.narrow(3, 0, r);
        let turned = part.f_mul(&cos)?;
        if self.interleaved {
            let pair = |t: &Tensor, i: i64| t.slice(3, i, r, 2);
            let half_sin = sin.slice(2, 0, r, 2);
            let _ = pair(&turned, 0).f_addcmul_(&pair(&part, 1), &half_sin.neg())?;
            let _ = pair(&turned, 1).f_addcmul_(&pair(&part, 0), &half_sin)?;
        } else {
            let h = r / 2;
            let half_sin = sin.narrow(2, 0, h);
            let _ = turned.narrow(3, 0, h).f_addcmul_(&part.narrow(3, h, h), &half_sin.neg())?;
            let _ = turned.narrow(3, h, h).f_addcmul_(&part.narrow(3, 0, h), &half_sin)?;
        }
        if r == d_head { Ok(turned) } else { Ok(Tensor::f_cat(&[turned, x.narrow(3, r, d_head - r)], -1)?) }
    }
}

fn scaled(inv_freq: &Tensor, scaling: &RopeScaling) -> Result<Tensor, ModelError> {
    Ok(match *scaling {
        RopeScaling::None => inv_freq.shallow_clone(),
        RopeScaling::Linear { factor } => inv_freq / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let wavelength = inv_freq.f_reciprocal()? * (2.0 * PI);
            let smooth = (wavelength.f_reciprocal()? * original_context - low_freq_factor)
                / (high_freq_factor - low_freq_factor);
            let mixed: Tensor = (1.0 - &smooth) * inv_freq / factor + &smooth * inv_freq;
            let low = wavelength.f_gt(original_context / low_freq_factor)?;
            let high = wavelength.f_lt(original_context / high_freq_factor)?;
            (inv_freq / factor).f_where_self(&low, &inv_freq.f_where_self(&high, &mixed)?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(interleaved: bool) -> RopeSpec {
        RopeSpec { theta: 10000.0, rotary_dim: 4, interleaved, scaling: RopeScaling::None }
    }

    #[test]
    fn one_rotation_by_hand() {
        // Position 1, pair frequencies 1 and 0.01: (1, 0) turns to (cos, sin).
        for interleaved in [false, true] {
            let rope = Rope::new(&spec(interleaved), 2, Kind::Float, Device::Cpu).unwrap();
            let head = if interleaved { [1f32, 0., 1., 0., 7.] } else { [1f32, 1., 0., 0., 7.] };
            let x = Tensor::from_slice(&[head, head].concat()).view([1, 2, 1, 5]);
            let y = Vec::<f32>::try_from(rope.rotate(&x, 0).unwrap().select(1, 1).reshape(-1)).unwrap();
            let (c, s) = ([1f32.cos(), 0.01f32.cos()], [1f32.sin(), 0.01f32.sin()]);
            let want = if interleaved { [c[0], s[0], c[1], s[1], 7.] } else { [c[0], c[1], s[0], s[1], 7.] };
            assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
        }
    }

    #[test]
    fn llama3_keeps_high_and_divides_low_frequencies() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        // Wavelength 2π is high (kept), 2π·1e6 is low (divided by 8), as transformers' formula gives.
        let out =
            Vec::<f32>::try_from(scaled(&Tensor::from_slice(&[1f32, 1e-6]), &scaling).unwrap()).unwrap();
        assert!((out[0] - 1.0).abs() < 1e-7 && (out[1] - 1e-6 / 8.0).abs() < 1e-13);
    }
}
