//! The tap of an experiment: noise on embeddings, activations of another run at chosen places, and the last state kept.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use crate::hook::{BlockHook, HookPoint, Tap, TapError};

/// Rows are variants of one prompt, `[rows, seq, d_model]` at every point.
pub(super) struct Restore<'a> {
    /// Added to the embeddings, `[rows, seq, d_model]`.
    pub(super) noise: Option<&'a Tensor>,
    /// The other run's values, `[1 or rows, seq, d_model]`, of the points that are patched.
    pub(super) donors: BTreeMap<HookPoint, &'a Tensor>,
    /// Where, `[rows, seq, 1]`, bool.
    pub(super) mask: Option<&'a Tensor>,
    /// What is kept, whole.
    pub(super) keep: &'a [HookPoint],
    pub(super) kept: BTreeMap<HookPoint, Tensor>,
    /// The stream leaving the last block.
    pub(super) end: HookPoint,
    /// Its last position, `[rows, d_model]`.
    pub(super) last: Option<Tensor>,
}

impl Tap for Restore<'_> {
    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Result<Tensor, TapError> {
        let refused = |error: TchError| TapError::Other(format!("{point} cannot be patched: {error}"));
        if let (HookPoint::Embed, Some(noise)) = (point, self.noise) {
            value = value.f_add(noise).and_then(|new| same_shape(new, &value)).map_err(refused)?;
        }
        if let (Some(donor), Some(mask)) = (self.donors.get(&point), self.mask) {
            let patched = donor.f_where_self(mask, &value);
            value = patched.and_then(|new| same_shape(new, &value)).map_err(refused)?;
        }
        if self.keep.contains(&point) {
            self.kept.insert(point, value.copy());
        }
        if point == self.end {
            self.last = Some(value.select(1, value.size()[1] - 1));
        }
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        (point == HookPoint::Embed && self.noise.is_some())
            || point == self.end
            || self.donors.contains_key(&point)
            || self.keep.contains(&point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(self.end)
    }
}

/// What is put in must not widen the rows that it is put into.
fn same_shape(new: Tensor, old: &Tensor) -> Result<Tensor, TchError> {
    if new.size() == old.size() {
        return Ok(new);
    }
    Err(TchError::Shape(format!("{:?} is put in where the run has {:?}", new.size(), old.size())))
}

/// The points of `hook` that one cell of a heat map patches: its layer, of attention and MLP with the `window` around
/// it.
pub(super) fn points(hook: BlockHook, layer: usize, window: usize, n_layers: usize) -> Vec<HookPoint> {
    if hook == BlockHook::ResidPre {
        return vec![HookPoint::Block(layer, hook)];
    }
    let first = layer.saturating_sub(window.saturating_sub(1) / 2);
    let last = (layer + window / 2).min(n_layers - 1);
    (first..=last).map(|layer| HookPoint::Block(layer, hook)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_ends_the_pass() {
        let ones = |shape: [i64; 3]| Tensor::ones(shape, (tch::Kind::Float, tch::Device::Cpu));
        let (value, point) = (ones([2, 3, 4]), HookPoint::resid_pre(1));
        let mask = ones([2, 3, 1]).to_kind(tch::Kind::Bool);
        let visit = |noise: Option<&Tensor>, donor: &Tensor| -> Result<[f64; 2], String> {
            let mut tap = Restore {
                noise,
                donors: BTreeMap::from([(point, donor)]),
                mask: Some(&mask),
                keep: &[],
                kept: BTreeMap::new(),
                end: HookPoint::resid_pre(2),
                last: None,
            };
            let sum = |value: Tensor| f64::try_from(value.sum(tch::Kind::Double)).unwrap();
            let embedded = tap.visit(HookPoint::Embed, value.copy()).map_err(|e| e.to_string())?;
            let out = tap.visit(point, value.copy()).map_err(|e| e.to_string())?;
            Ok([sum(embedded), sum(out)])
        };
        let twos = ones([1, 3, 4]) * 2.0;
        // 24 numbers: 1 + 1 with noise, 2 of the donor everywhere.
        assert_eq!(visit(Some(&ones([2, 3, 4])), &twos), Ok([48.0, 48.0]));
        // Noise for another prompt length, for other rows, and a donor of another width.
        let starts = |got: Result<[f64; 2], String>, at: &str| {
            assert!(
                got.as_ref().is_err_and(|e| e.starts_with(&format!("{at} cannot be patched: "))),
                "{got:?}"
            );
        };
        starts(visit(Some(&ones([2, 5, 4])), &twos), "hook_embed");
        starts(visit(Some(&ones([2, 2, 3])), &ones([1, 3, 5])), "hook_embed");
        starts(visit(None, &ones([1, 3, 5])), "blocks.1.hook_resid_pre");
    }

    #[test]
    fn windows_are_cut_at_the_ends() {
        let layers = |layer, window| {
            let of = |p: &HookPoint| p.layer(9);
            points(BlockHook::MlpOut, layer, window, 8).iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(layers(3, 1), [3]);
        assert_eq!(layers(3, 3), [2, 3, 4]);
        assert_eq!(layers(3, 4), [2, 3, 4, 5]);
        assert_eq!((layers(0, 5), layers(7, 5)), (vec![0, 1, 2], vec![5, 6, 7]));
        assert_eq!(points(BlockHook::ResidPre, 8, 5, 8).len(), 1);
    }
}
