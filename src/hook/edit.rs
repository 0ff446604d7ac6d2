use tch::Tensor;

use super::{HookPoint, Tap, TapError};

/// Replaces the value at one point by any function of it. The usual changes, at chosen positions, are `Edits` of the
/// room `intervene`.
#[derive(Debug)]
pub struct Edit<F> {
    point: HookPoint,
    change: F,
}

impl<F: FnMut(Tensor) -> Tensor> Edit<F> {
    /// At `point`, uses `change(value)` in place of the value.
    pub fn at(point: HookPoint, change: F) -> Self {
        Self { point, change }
    }
}

impl<F: FnMut(Tensor) -> Tensor> Tap for Edit<F> {
    fn visit(&mut self, _point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        Ok((self.change)(value))
    }

    fn wants(&self, point: HookPoint) -> bool {
        point == self.point
    }
}

/// Ends the pass after a point.
#[derive(Debug, Clone, Copy)]
pub struct StopAfter(pub HookPoint);

impl Tap for StopAfter {
    fn visit(&mut self, _point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        Ok(value)
    }

    fn wants(&self, _point: HookPoint) -> bool {
        false
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(self.0)
    }
}
