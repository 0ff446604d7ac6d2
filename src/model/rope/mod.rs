//! Rotary position embeddings (Su et al. 2021).

mod spec;

use std::borrow::Cow;

pub use spec::{RopeScaling, RopeSpec};
use tch::{Device, Kind, Tensor};

use super::{ModelError, nn::wide};

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
            let y = Vec::<f32>::try_from(rope.at(0, 2).unwrap().rotate(&x).unwrap().select(1, 1).reshape(-1))
                .unwrap();
            let (c, s) = ([1f32.cos(), 0.01f32.cos()], [1f32.sin(), 0.01f32.sin()]);
            let want = if interleaved { [c[0], s[0], c[1], s[1], 7.] } else { [c[0], c[1], s[0], s[1], 7.] };
            assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
        }
    }
}
