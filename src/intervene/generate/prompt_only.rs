use std::ops::Range;

use tch::{TchError, Tensor};

use crate::hook::{HookPoint, Tap, TapError};
use crate::intervene::edits::is_square;

/// Shows a tap the prompt's positions of a pass that goes beyond them, so that a pass over the whole sequence repeats
/// what a cache would keep.
pub(super) struct PromptOnly<'a> {
    tap: &'a mut dyn Tap,
    prompt: usize,
}

impl<'a> PromptOnly<'a> {
    pub(super) fn new(tap: &'a mut dyn Tap, prompt: usize) -> Self {
        Self { tap, prompt }
    }

    fn start_of(&mut self, point: HookPoint, value: &Tensor) -> Result<Tensor, TapError> {
        let refused = |error: TchError| TapError::edit(point, &error);
        let n = self.prompt as i64;
        if !is_square(point) {
            let edited = self.tap.visit(point, value.f_narrow(1, 0, n).map_err(refused)?)?;
            return value.f_slice_scatter(&edited, 1, 0, n, 1).map_err(refused);
        }
        // Queries and keys; what the prompt's queries see beyond the prompt is nothing.
        let queries = value.f_narrow(2, 0, n).map_err(refused)?;
        let edited = self.tap.visit(point, queries.f_narrow(3, 0, n).map_err(refused)?)?;
        let queries = queries.f_slice_scatter(&edited, 3, 0, n, 1).map_err(refused)?;
        value.f_slice_scatter(&queries, 2, 0, n, 1).map_err(refused)
    }
}

impl Tap for PromptOnly<'_> {
    fn begin(&mut self, positions: Range<usize>) {
        self.tap.begin(positions.start..self.prompt);
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        self.start_of(point, &value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.tap.wants(point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.tap.stop_after()
    }
}
