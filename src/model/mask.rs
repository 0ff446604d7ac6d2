//! Which keys a query may see, and alibi's bias on them.

use tch::{Device, Kind, Tensor};

use super::{
    ModelError, Spec,
    spec::{Alibi, Positions},
};

/// Which keys a query may see.
#[derive(Debug)]
pub(super) enum Mask {
    /// Those up to its own; queries and keys are the same positions.
    Causal,
    /// All: one query, after every key; or an encoder's.
    Open,
    /// As added to the scores, `[1 or n_heads, query, key]`.
    Added(Tensor),
}

/// What attention may see, one mask per distinct window.
pub(super) struct Masks(Vec<(Option<usize>, Mask)>);

impl Masks {
    /// For queries `like [batch, seq, ..]` at positions from `start` on, and keys from 0 on.
    pub(super) fn new(spec: &Spec, like: &Tensor, start: i64) -> Result<Self, ModelError> {
        let seq = like.size()[1];
        if spec.encoder.is_some() {
            return Self::of_encoder(spec, like);
        }
        let alibi = alibi(spec, start + seq, like);
        let mut masks: Vec<(Option<usize>, Mask)> = Vec::new();
        for layer in &spec.layers {
            // A window that covers the whole sequence hides nothing.
            let window = layer.window.filter(|w| (*w as i64) < start + seq);
            if masks.iter().any(|(known, _)| *known == layer.window) {
                continue;
            }
            let causal = || causal(start, seq, window, like);
            let mask = match (window, &alibi) {
                (None, None) if start == 0 => Mask::Causal,
                (None, None) if seq == 1 => Mask::Open,
                (_, None) => Mask::Added(causal()?.unsqueeze(0)),
                (_, Some(alibi)) => Mask::Added(causal()? + alibi),
            };
            masks.push((layer.window, mask));
        }
        Ok(Self(masks))
    }

    /// Of an encoder: everything, or what a window on both sides shows.
    fn of_encoder(spec: &Spec, like: &Tensor) -> Result<Self, ModelError> {
        let mut masks: Vec<(Option<usize>, Mask)> = Vec::new();
        for layer in &spec.layers {
            if masks.iter().any(|(known, _)| *known == layer.window) {
                continue;
            }
            let mask = match layer.window.filter(|w| (*w as i64) < like.size()[1]) {
                Some(window) => Mask::Added(band(like.size()[1], window, like)?.unsqueeze(0)),
                None => Mask::Open,
            };
            masks.push((layer.window, mask));
        }
        Ok(Self(masks))
    }

    /// Of a layer with this window.
    pub(super) fn of(&self, window: Option<usize>) -> &Mask {
        self.0.iter().find(|(known, _)| *known == window).map_or(&Mask::Causal, |(_, mask)| mask)
    }
}

/// Alibi's bias `[n_heads, 1, key]`: slope times key position, which softmax cannot tell from slope times distance.
fn alibi(spec: &Spec, keys: i64, like: &Tensor) -> Option<Tensor> {
    let Positions::Alibi(variant) = spec.positions else { return None };
    let slopes = Tensor::from_slice(&alibi_slopes(spec.n_heads)).view([-1, 1, 1]);
    let positions = Tensor::arange(keys, (Kind::Float, Device::Cpu)).view([1, 1, -1]);
    let bias = match variant {
        Alibi::AfterScale => slopes * positions,
        Alibi::BeforeScale => {
            let rounded = slopes.to_kind(Kind::BFloat16) * positions.to_kind(Kind::BFloat16);
            rounded.to_kind(Kind::Float) * spec.layers[0].scale
        }
    };
    Some(bias.to_kind(like.kind()).to_device(like.device()))
}

/// The causal mask `[query, key]` added to scores: 0 where a position may look, -inf where not. Queries are the last
/// `seq` of `start + seq` positions, keys are all of them. With a window, a position sees itself and the `window - 1`
/// before it.
pub(super) fn causal(
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

/// The mask `[query, key]` of a window on both sides: a position sees itself and `window - 1` before and behind it.
fn band(seq: i64, window: usize, like: &Tensor) -> Result<Tensor, ModelError> {
    let position = Tensor::arange(seq, (Kind::Int64, like.device()));
    let distance = (position.unsqueeze(1) - position.unsqueeze(0)).f_abs()?;
    let mask = Tensor::f_zeros([seq, seq], (like.kind(), like.device()))?;
    Ok(mask.f_masked_fill(&distance.f_ge(window as i64)?, f64::NEG_INFINITY)?)
}

/// Alibi's slope of each head (Press et al. 2022), also where their number is no power of two.
fn alibi_slopes(n_heads: usize) -> Vec<f32> {
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
        // 4 heads: 2^-2, 2^-4, 2^-6, 2^-8 (the paper); 6 heads: two more from the odd powers for 8 heads, 2^-1 and
        // 2^-3.
        assert_eq!(alibi_slopes(4), [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(alibi_slopes(6)[4..], [0.5, 0.125]);
    }

    #[test]
    fn a_window_of_an_encoder_has_two_sides() {
        let like = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
        let mask = band(4, 2, &like).unwrap();
        let seen = Vec::<bool>::try_from(mask.f_eq(0.0).unwrap().get(1)).unwrap();
        assert_eq!(seen, [true, true, true, false]);
    }

    #[test]
    fn a_window_of_two_sees_itself_and_one_before() {
        let like = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
        let mask = causal(0, 3, Some(2), &like).unwrap();
        let seen = Vec::<bool>::try_from(mask.f_eq(0.0).unwrap().view(-1)).unwrap();
        assert_eq!(seen, [true, false, false, true, true, false, false, true, true]);
        // The last two of the three queries alone are the last two rows.
        let late = causal(1, 2, Some(2), &like).unwrap();
        assert!(late.equal(&mask.narrow(0, 1, 2)));
    }
}
