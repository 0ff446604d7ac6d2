//! The tap of an experiment: noise on embeddings, activations of another run at chosen places, and the last state kept.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::hook::{BlockHook, HookPoint, Tap};

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
    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Tensor {
        if let (HookPoint::Embed, Some(noise)) = (point, self.noise) {
            value = value.f_add(noise).unwrap_or(value);
        }
        if let (Some(donor), Some(mask)) = (self.donors.get(&point), self.mask) {
            value = donor.f_where_self(mask, &value).unwrap_or(value);
        }
        if self.keep.contains(&point) {
            self.kept.insert(point, value.copy());
        }
        if point == self.end {
            self.last = Some(value.select(1, value.size()[1] - 1));
        }
        value
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

/// The points of `hook` that one cell of a heat map patches: its layer, of attention and MLP with the `window` around it.
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
