//! The model from one layer on.

use tch::{Kind, Tensor};

use crate::{
    hook::{Capture, Edit, HookPoint, Selection, Tap},
    model::{Model, ModelError, Schedule, Step},
};

/// The stream `[rows, d_model]`, f32, that leaves the last block when `stream [rows, d_model]` enters block `layer`;
/// `ids [batch, seq]` has as many tokens. Only the blocks from `layer` on run.
///
/// # Errors
/// When the model cannot run.
pub fn replay(model: &Model, ids: &Tensor, layer: usize, stream: &Tensor) -> Result<Tensor, ModelError> {
    replay_under(model, ids, (layer, stream), &mut ())
}

/// The same, past a tap that edits what lies between.
///
/// # Errors
/// Those of [`replay`], and of the tap.
pub fn replay_under(
    model: &Model,
    ids: &Tensor,
    (layer, stream): (usize, &Tensor),
    tap: &mut dyn Tap,
) -> Result<Tensor, ModelError> {
    let (n_layers, d) = (model.spec().n_layers, model.spec().d_model as i64);
    let end = HookPoint::resid_pre(n_layers);
    let schedule = Schedule::new((layer..n_layers).map(Step::Block).collect(), n_layers)?;
    let (batch, seq) = ids.size2()?;
    let stream = stream.f_to_device(model.device())?.f_to_kind(model.kind())?.f_view([batch, seq, d])?;
    let enter = Edit::at(HookPoint::resid_pre(layer), |_own: Tensor| stream.shallow_clone());
    let mut taps = ((enter, tap), Capture::new([end].into_iter().collect::<Selection>()));
    model.forward_along(ids, &schedule, None, &mut taps)?;
    let missing = || ModelError::Input(format!("{end} was not computed"));
    let last = taps.1.get(end).ok_or_else(missing)?;
    Ok(last.f_to_kind(Kind::Float)?.f_reshape([-1, d])?)
}
