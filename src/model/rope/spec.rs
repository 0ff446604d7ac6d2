//! Which angles a model rotates by: its frequencies, and how they are stretched for long texts.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use crate::model::ModelError;

/// How a model rotates queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How many leading dimensions of a head are rotated.
    pub rotary_dim: usize,
    /// Pairs are neighbours `(2i, 2i + 1)`, as in GPT-J, instead of `(i, i + rotary_dim / 2)`.
    pub interleaved: bool,
    /// Clockwise (nanochat).
    pub backwards: bool,
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
    /// `YaRN` (Peng et al. 2023): low frequencies divided by `factor`, high ones kept, a ramp over pairs between.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// The pairs at which the ramp starts and ends.
        ramp: [f64; 2],
        /// Factor on cosines and sines.
        attention_factor: f64,
        /// Context length after stretching.
        context: f64,
    },
    /// Texts longer than `context` take a larger base, by their length.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// `max_position_embeddings`.
        context: f64,
    },
    /// A divisor for each frequency, of which there are two sets (Ding et al. 2024; Phi-3).
    LongRope {
        /// Divisors in texts of at most `original_context` tokens.
        short: Vec<f64>,
        /// Divisors in longer ones.
        long: Vec<f64>,
        /// Context length before stretching.
        original_context: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
}

impl RopeSpec {
    /// Whether texts of `first` to `last` tokens are rotated alike.
    pub fn same_at(&self, first: usize, last: usize) -> bool {
        match self.scaling {
            RopeScaling::Dynamic { context, .. } => first == last || last as f64 <= context,
            RopeScaling::LongRope { original_context, .. } => {
                (first > original_context) == (last > original_context)
            }
            _ => true,
        }
    }

    /// The longest text it is made for, where that is more than `max_position_embeddings` says.
    pub(in crate::model) fn context(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { context, .. } => context,
            RopeScaling::Dynamic { factor, context } => factor * context,
            _ => 0.0,
        }
    }

    /// Factor on cosines and sines.
    pub(super) fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }

    /// Frequencies `[rotary_dim / 2]` in a text of `len` tokens, step by step as transformers computes them, because at
    /// position 8000 one rounding of a frequency is already visible in an angle.
    pub(in crate::model) fn frequencies(&self, len: usize, kind: Kind) -> Result<Tensor, ModelError> {
        let r = self.rotary_dim as f64;
        let exponent = Tensor::arange_start_step(0, self.rotary_dim as i64, 2, (kind, Device::Cpu)) / r;
        let power = |theta: f64| Tensor::from(theta).to_kind(kind).f_pow(&exponent);
        let plain = power(self.theta)?.f_reciprocal()?;
        Ok(match &self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain / *factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                llama3(&plain, *factor, [*low_freq_factor, *high_freq_factor], *original_context)?
            }
            RopeScaling::Yarn { factor, ramp: [low, high], .. } => {
                let slope =
                    (Tensor::arange(self.rotary_dim as i64 / 2, (kind, Device::Cpu)) - *low) / (high - low);
                let kept: Tensor = 1.0 - slope.f_clamp(0.0, 1.0)?;
                let divided = (power(self.theta)? * *factor).f_reciprocal()?;
                divided * (1.0 - &kept) + plain * kept
            }
            RopeScaling::Dynamic { factor, context } => {
                let stretch = factor * (len as f64).max(*context) / context - (factor - 1.0);
                power(self.theta * stretch.powf(r / (r - 2.0)))?.f_reciprocal()?
            }
            RopeScaling::LongRope { short, long, original_context, .. } => {
                let divisors = if len > *original_context { long } else { short };
                (Tensor::from_slice(divisors).to_kind(kind) * power(self.theta)?).f_reciprocal()?
            }
        })
    }
}

fn llama3(plain: &Tensor, factor: f64, [low, high]: [f64; 2], context: f64) -> Result<Tensor, ModelError> {
    let wavelength = plain.f_reciprocal()? * (2.0 * PI);
    let smooth = (wavelength.f_reciprocal()? * context - low) / (high - low);
    let mixed: Tensor = (1.0 - &smooth) * plain / factor + &smooth * plain;
    let (is_low, is_high) = (wavelength.f_gt(context / low)?, wavelength.f_lt(context / high)?);
    Ok((plain / factor).f_where_self(&is_low, &plain.f_where_self(&is_high, &mixed)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RopeSpec {
        let scaling = RopeScaling::None;
        RopeSpec { theta: 10000.0, rotary_dim: 4, interleaved: false, backwards: false, scaling }
    }

    #[test]
    fn llama3_keeps_high_and_divides_low_frequencies() {
        // Wavelength 2π is high (kept), 2π·1e6 is low (divided by 8), as transformers' formula gives.
        let plain = Tensor::from_slice(&[1f32, 1e-6]);
        let out = Vec::<f32>::try_from(llama3(&plain, 8.0, [1.0, 4.0], 8192.0).unwrap()).unwrap();
        assert!((out[0] - 1.0).abs() < 1e-7 && (out[1] - 1e-6 / 8.0).abs() < 1e-13);
    }

    #[test]
    fn longer_texts_take_other_frequencies() {
        let scaling = RopeScaling::LongRope {
            short: vec![1.0, 1.0],
            long: vec![2.0, 4.0],
            original_context: 8,
            attention_factor: 1.0,
        };
        let long = RopeSpec { scaling, ..spec() };
        assert!(long.same_at(1, 8) && !long.same_at(8, 9) && long.same_at(9, 100));
        let dynamic = RopeSpec { scaling: RopeScaling::Dynamic { factor: 2.0, context: 8.0 }, ..spec() };
        assert!(dynamic.same_at(1, 8) && dynamic.same_at(9, 9) && !dynamic.same_at(9, 10));
        let of = |spec: &RopeSpec, len| {
            Vec::<f64>::try_from(spec.frequencies(len, Kind::Double).unwrap()).unwrap()
        };
        assert_eq!((of(&long, 8), of(&long, 9)), (vec![1.0, 0.01], vec![0.5, 0.0025]));
        // At twice the context the base is (2·2 - 1)^(4 / 2) times as large: pair 1 turns 3 times as slowly.
        assert!((of(&dynamic, 16)[1] - 0.01 / 3.0).abs() < 1e-15 && of(&dynamic, 8) == [1.0, 0.01]);
    }
}
