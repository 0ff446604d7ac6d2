use std::collections::BTreeMap;

use tch::Tensor;

use super::{Relations, sums};
use crate::hook::{BlockHook, HookPoint, Tap, TapError};

/// Makes sums of every pattern as it comes by; the pass ends after the last of them.
pub(super) struct HeadTap<'a> {
    pub(super) relations: &'a Relations,
    /// Ascending.
    pub(super) layers: &'a [usize],
    /// By layer, `[batch, head, column]`.
    pub(super) found: BTreeMap<usize, Tensor>,
}

impl Tap for HeadTap<'_> {
    fn visit(&mut self, point: HookPoint, pattern: Tensor) -> Result<Tensor, TapError> {
        if let HookPoint::Block(layer, _) = point {
            let found =
                sums(&pattern, self.relations).map_err(|e| TapError::Other(format!("{point}: {e}")))?;
            self.found.insert(layer, found);
        }
        Ok(pattern)
    }

    fn wants(&self, point: HookPoint) -> bool {
        matches!(point, HookPoint::Block(layer, BlockHook::Pattern) if self.layers.contains(&layer))
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.layers.last().map(|layer| HookPoint::Block(*layer, BlockHook::Pattern))
    }
}
