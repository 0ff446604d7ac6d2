//! The way in: vectors in place of token embeddings.

use std::ops::Range;

use tch::{Device, Kind, TchError, Tensor};

use super::ThinkError;
use crate::{
    hook::{Capture, HookPoint, Selection, Tap, TapError, first_line},
    model::{Model, ModelError},
};

/// A tap that puts vectors in place of the token embeddings, from one position on. Positions are those of the whole
/// sequence, so that passes with a cache and without one are fed alike.
#[derive(Debug)]
pub struct Fed {
    first: usize,
    /// `[rows, n, d_model]`.
    vectors: Tensor,
    pass: Range<usize>,
    until: Option<HookPoint>,
}

impl Fed {
    /// `vectors [rows, n, d_model]` at positions `first..first + n`; what the tokens there embed to is not used.
    pub fn new(first: usize, vectors: &Tensor) -> Self {
        Self { first, vectors: vectors.shallow_clone(), pass: 0..0, until: None }
    }

    /// Lets the pass end after `point`.
    #[must_use]
    pub fn until(mut self, point: HookPoint) -> Self {
        self.until = Some(point);
        self
    }

    fn put(&self, value: &Tensor) -> Result<Tensor, TchError> {
        let n = self.vectors.size3()?.1 as usize;
        let (start, end) = (self.first.max(self.pass.start), (self.first + n).min(self.pass.end));
        if start >= end {
            return Ok(value.shallow_clone());
        }
        let part = self.vectors.f_narrow(1, (start - self.first) as i64, (end - start) as i64)?;
        let part = part.f_to_kind(value.kind())?.f_to_device(value.device())?;
        let place = |position: usize| (position - self.pass.start) as i64;
        value.f_slice_scatter(&part, 1, place(start), place(end), 1)
    }
}

impl Tap for Fed {
    fn begin(&mut self, positions: Range<usize>) {
        self.pass = positions;
    }

    fn visit(&mut self, _point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        self.put(&value).map_err(|error| {
            TapError::Other(format!(
                "vectors {:?} as embeddings: {}",
                self.vectors.size(),
                first_line(&error)
            ))
        })
    }

    fn wants(&self, point: HookPoint) -> bool {
        point == HookPoint::Embed
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.until
    }
}

/// What the capture kept of a layer.
pub(super) fn kept(capture: &Capture, layer: usize) -> Result<&Tensor, ModelError> {
    capture
        .get(HookPoint::resid_pre(layer))
        .ok_or_else(|| ModelError::Input(format!("layer {layer} was not computed")))
}

/// `n` tokens per row whose embeddings a tap replaces, `[rows, n]`.
pub(super) fn places(rows: i64, n: i64) -> Tensor {
    Tensor::zeros([rows, n], (Kind::Int64, Device::Cpu))
}

/// Runs `ids [rows, P]`, `vectors [rows, k, d_model]` and `fed [rows, m]`, and returns what leaves the last block at
/// the last position before `fed` and at those of `fed`: `[rows, m + 1, d_model]`, before the final norm.
///
/// # Errors
/// When the sequence does not fit the model.
pub fn ends(model: &Model, ids: &Tensor, vectors: &Tensor, fed: &Tensor) -> Result<Tensor, ThinkError> {
    let _no_grad = tch::no_grad_guard();
    let ((rows, prompt), thoughts, last) = (ids.size2()?, vectors.size3()?.1, model.spec().n_layers);
    let all = [&ids.to_device(Device::Cpu), &places(rows, thoughts), &fed.to_device(Device::Cpu)];
    let all = Tensor::f_cat(&all, 1)?;
    let capture = Capture::new([HookPoint::resid_pre(last)].into_iter().collect::<Selection>());
    let mut taps = (Fed::new(prompt as usize, vectors).until(HookPoint::resid_pre(last)), capture);
    let _none = model.forward(&all, &mut taps)?;
    Ok(kept(&taps.1, last)?.f_narrow(1, prompt + thoughts - 1, fed.size2()?.1 + 1)?)
}
