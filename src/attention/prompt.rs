//! Every link of one prompt.

use tch::{Device, IndexOp as _, Kind, Tensor};

use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::{Model, ModelError},
    results::patterns::HeadPattern,
};

/// The pattern of every head of `layers` on one prompt.
///
/// # Errors
/// When the model cannot run, or a pattern is not finite.
pub fn prompt_patterns(model: &Model, ids: &[u32], layers: &[usize]) -> Result<Vec<HeadPattern>, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let point = |layer: usize| HookPoint::Block(layer, BlockHook::Pattern);
    let mut capture = Capture::new(layers.iter().map(|layer| point(*layer)).collect::<Selection>());
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    model.forward(&Tensor::from_slice(&ids).view([1, -1]), &mut capture)?;
    let mut found = Vec::new();
    for layer in layers {
        let point = point(*layer);
        let missing = || ModelError::Input(format!("{point} was not computed"));
        let pattern = capture.get(point).ok_or_else(missing)?.i(0).f_to_device(Device::Cpu)?;
        for head in 0..pattern.size()[0] {
            let weights = pattern.i(head).f_to_kind(Kind::Double)?.f_reshape([-1])?;
            let weights: Vec<f64> = weights.try_into()?;
            if weights.iter().any(|weight| !weight.is_finite()) {
                return Err(ModelError::Input(format!("{point} is not finite: head {head} of the prompt")));
            }
            found.push(HeadPattern { layer: *layer, head: head as usize, weights });
        }
    }
    Ok(found)
}
