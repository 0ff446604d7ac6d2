//! Rotary position embeddings (Su et al. 2021), and how their frequencies are stretched for long texts.

use std::{borrow::Cow, f64::consts::PI};

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
    pub(super) fn context(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { context, .. } => context,
            RopeScaling::Dynamic { factor, context } => factor * context,
            _ => 0.0,
        }
    }

    /// Factor on cosines and sines.
    fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }

    /// Frequencies `[rotary_dim / 2]` in a text of `len` tokens, step by step as transformers computes them, because at
    /// position 8000 one rounding of a frequency is already visible in an angle.
    fn frequencies(&self, len: usize, kind: Kind) -> Result<Tensor, ModelError> {
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
                let slope = (Tensor::arange(self.rotary_dim as i64 / 2, (kind, Device::Cpu)) - *low) / (high - low);
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

/// Rotations of the positions of every text.
#[derive(Debug)]
pub(super) struct Rope {
    spec: RopeSpec,
    kind: Kind,
    device: Device,
    n_ctx: usize,
    /// Those of texts of one token, which mostly are those of all texts.
    usual: Table,
    /// Those of the longest text, where they are others and there are no more than two.
    longest: Option<Table>,
}

/// Cosines and sines `[position, 1, rotary_dim]`, the pairs laid out as in the head.
#[derive(Debug)]
struct Table {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// For texts of up to `n_ctx` tokens.
    pub(super) fn new(spec: &RopeSpec, n_ctx: usize, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let usual = Table::new(spec, 1, n_ctx, kind, device)?;
        let two = matches!(spec.scaling, RopeScaling::LongRope { .. }) && !spec.same_at(1, n_ctx);
        let longest = two.then(|| Table::new(spec, n_ctx, n_ctx, kind, device)).transpose()?;
        Ok(Self { spec: spec.clone(), kind, device, n_ctx, usual, longest })
    }

    /// The rotation of `seq` positions from `start` on, the last of their text.
    pub(super) fn at(&self, start: i64, seq: i64) -> Result<Turn, ModelError> {
        let len = (start + seq) as usize;
        let table = match &self.longest {
            _ if self.spec.same_at(1, len) => Cow::Borrowed(&self.usual),
            Some(longest) if self.spec.same_at(len, self.n_ctx) => Cow::Borrowed(longest),
            _ => Cow::Owned(Table::new(&self.spec, len, len, self.kind, self.device)?),
        };
        let rows = |t: &Tensor| t.f_narrow(0, start, seq);
        let (cos, sin) = (rows(&table.cos)?, rows(&table.sin)?);
        Ok(Turn { rotary_dim: self.spec.rotary_dim as i64, interleaved: self.spec.interleaved, cos, sin })
    }
}

impl Table {
    /// The first `rows` positions of a text of `len` tokens.
    fn new(spec: &RopeSpec, len: usize, rows: usize, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let wide = wide(kind);
        let positions = Tensor::arange(rows as i64, (wide, Device::Cpu));
        let angles = positions.f_outer(&spec.frequencies(len, wide)?)?; // [rows, rotary_dim / 2]
        let angles = if spec.backwards { angles.f_neg()? } else { angles };
        let factor = spec.attention_factor();
        let paired = |x: Tensor| -> Result<Tensor, ModelError> {
            let x = if factor == 1.0 { x } else { x * factor };
            let pairs = if spec.interleaved {
                x.f_repeat_interleave_self_int(2, -1, None)?
            } else {
                Tensor::f_cat(&[&x, &x], -1)?
            };
            Ok(pairs.unsqueeze(1).to_kind(kind).to_device(device))
        };
        Ok(Self { cos: paired(angles.cos())?, sin: paired(angles.sin())? })
    }
}

impl Clone for Table {
    fn clone(&self) -> Self {
        Self { cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone() }
    }
}

/// The rotation of the positions of one pass.
pub(super) struct Turn {
    rotary_dim: i64,
    interleaved: bool,
    cos: Tensor,
    sin: Tensor,
}

impl Turn {
    /// Rotates `x [batch, seq, head, d_head]`.
    pub(super) fn rotate(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let (d_head, r) = (x.size()[3], self.rotary_dim);
        let (cos, sin) = (&self.cos, &self.sin);
        let part = x.narrow(3, 0, r);
        let turned = part.f_mul(cos)?;
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


#[cfg(test)]
mod tests {
    use super::*;

    fn spec(interleaved: bool) -> RopeSpec {
        let scaling = RopeScaling::None;
        RopeSpec { theta: 10000.0, rotary_dim: 4, interleaved, backwards: false, scaling }
    }

    #[test]
    fn one_rotation_by_hand() {
        // Position 1, pair frequencies 1 and 0.01: (1, 0) turns to (cos, sin).
        for interleaved in [false, true] {
            let rope = Rope::new(&spec(interleaved), 2, Kind::Float, Device::Cpu).unwrap();
            let head = if interleaved { [1f32, 0., 1., 0., 7.] } else { [1f32, 1., 0., 0., 7.] };
            let x = Tensor::from_slice(&[head, head].concat()).view([1, 2, 1, 5]);
            let y = Vec::<f32>::try_from(rope.at(0, 2).unwrap().rotate(&x).unwrap().select(1, 1).reshape(-1)).unwrap();
            let (c, s) = ([1f32.cos(), 0.01f32.cos()], [1f32.sin(), 0.01f32.sin()]);
            let want = if interleaved { [c[0], s[0], c[1], s[1], 7.] } else { [c[0], c[1], s[0], s[1], 7.] };
            assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
        }
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
        let long = RopeSpec { scaling, ..spec(false) };
        assert!(long.same_at(1, 8) && !long.same_at(8, 9) && long.same_at(9, 100));
        let dynamic = RopeSpec { scaling: RopeScaling::Dynamic { factor: 2.0, context: 8.0 }, ..spec(false) };
        assert!(dynamic.same_at(1, 8) && dynamic.same_at(9, 9) && !dynamic.same_at(9, 10));
        let of = |spec: &RopeSpec, len| Vec::<f64>::try_from(spec.frequencies(len, Kind::Double).unwrap()).unwrap();
        assert_eq!((of(&long, 8), of(&long, 9)), (vec![1.0, 0.01], vec![0.5, 0.0025]));
        // At twice the context the base is (2·2 - 1)^(4 / 2) times as large: pair 1 turns 3 times as slowly.
        assert!((of(&dynamic, 16)[1] - 0.01 / 3.0).abs() < 1e-15 && of(&dynamic, 8) == [1.0, 0.01]);
    }
}
