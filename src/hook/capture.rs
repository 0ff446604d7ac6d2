use std::collections::BTreeMap;

use tch::Tensor;

use super::{HookPoint, Selection, Tap, TapError};

/// Keeps a copy of every selected point, and ends the pass after the last of them.
#[derive(Debug)]
pub struct Capture {
    points: Selection,
    kept: BTreeMap<HookPoint, Tensor>,
    run_on: bool,
}

impl Capture {
    /// Keeps the points of `points`.
    pub fn new(points: Selection) -> Self {
        Self { points, kept: BTreeMap::new(), run_on: false }
    }

    /// Lets the pass run to the logits although nothing later is kept.
    #[must_use]
    pub fn run_on(mut self) -> Self {
        self.run_on = true;
        self
    }

    /// What was seen at `point` in the last pass.
    pub fn get(&self, point: HookPoint) -> Option<&Tensor> {
        self.kept.get(&point)
    }

    /// Everything that was seen, in the order of the pass.
    pub fn into_inner(self) -> BTreeMap<HookPoint, Tensor> {
        self.kept
    }
}

impl Tap for Capture {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        self.kept.insert(point, value.detach().copy());
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.points.contains(point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        if self.run_on { None } else { self.points.last() }
    }
}
