//! What a component writes, as words: its vector through the final norm and the unembedding.

use layerscope_lenses::{Norm, NormKind};
use tch::{Device, Kind, Tensor};

use super::{AttributionError, Component, component::has_positions};
use crate::{
    hook::{BlockHook as B, Capture, HookPoint},
    model::{Branch, Model, Writer},
};

/// Tokens whose logits a component moves most, largest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// Those it raises, with what it brings to them.
    pub raised: Vec<(i64, f64)>,
    /// Those it lowers.
    pub lowered: Vec<(i64, f64)>,
}

/// The `k` tokens of the first `vocab` that each of `components` raises and lowers most at `row` of `ids [1, seq]`,
/// less what it brings to all of them on average, which moves no probability. Norms are held as in
/// [`attribute`](super::attribute); a neuron, a head and a whole MLP are components, constants are too.
///
/// # Errors
/// What the network says; a row or component that is not there.
pub fn words(
    model: &Model,
    (ids, row): (&Tensor, i64),
    components: &[Component],
    (vocab, k): (usize, usize),
) -> Result<Vec<Words>, AttributionError> {
    let _no_grad = tch::no_grad_guard();
    let end = HookPoint::resid_pre(model.spec().n_layers);
    let points = components.iter().flat_map(|component| reads(model, *component)).chain([end]);
    let mut capture = Capture::new(points.collect());
    let _none = model.forward(ids, &mut capture)?;
    let at = |point: HookPoint| -> Result<Tensor, AttributionError> {
        let missing = || AttributionError::Rows(format!("{point} was not computed"));
        Ok(capture.get(point).ok_or_else(missing)?.f_select(0, 0)?.f_select(0, row)?)
    };
    let (unembed, last) = (model.unembed(), at(end)?);
    let head = unembed.weight().f_narrow(0, 0, vocab as i64)?;
    let of = |component: &Component| -> Result<Words, AttributionError> {
        let logits = match component {
            Component::HeadBias => {
                unembed.bias().map(|bias| bias.f_narrow(0, 0, vocab as i64)).transpose()?
            }
            Component::NormBias => {
                unembed.norm().and_then(Norm::bias).map(|bias| head.f_mv(bias)).transpose()?
            }
            part => Some(head.f_mv(&normed(unembed.norm(), &last, &vector(model, *part, &at)?)?)?),
        };
        let missing = || AttributionError::Rows(format!("this model has no {}", component.name()));
        ranked(&logits.ok_or_else(missing)?.f_to_kind(Kind::Double)?, k as i64)
    };
    components.iter().map(of).collect()
}

/// Where a component is found in the pass.
fn reads(model: &Model, component: Component) -> Vec<HookPoint> {
    match component {
        Component::Embed if !has_positions(model.spec()) => vec![HookPoint::resid_pre(0)],
        Component::Embed | Component::PosEmbed | Component::Mlp(_) => vec![component.point()],
        Component::Head(block, _) | Component::AttnBias(block) | Component::AttnNormBias(block) => {
            vec![HookPoint::Block(block, B::Z)]
        }
        Component::Neuron(block, _) | Component::MlpBias(block) | Component::MlpNormBias(block) => {
            vec![HookPoint::Block(block, B::MlpPost)]
        }
        Component::NormBias | Component::HeadBias => Vec::new(),
    }
}

/// What a component adds to the stream, `[d_model]`.
fn vector(
    model: &Model,
    component: Component,
    at: &dyn Fn(HookPoint) -> Result<Tensor, AttributionError>,
) -> Result<Tensor, AttributionError> {
    let (branch, block) = match component {
        Component::Head(block, _) | Component::AttnBias(block) | Component::AttnNormBias(block) => {
            (Branch::Attention, block)
        }
        Component::Neuron(block, _) | Component::MlpBias(block) | Component::MlpNormBias(block) => {
            (Branch::Mlp, block)
        }
        other => return reads(model, other).first().map_or_else(|| nothing(other), |point| at(*point)),
    };
    let Some(writer) = model.writer(block, branch) else { return nothing(component) };
    let x = at(reads(model, component)[0])?.f_view([-1])?;
    let bias = |of: Option<&Tensor>| of.map_or_else(|| nothing(component), |bias| Ok(bias.shallow_clone()));
    let part = match component {
        Component::Head(_, head) => {
            let width = model.spec().d_head as i64;
            let start = head as i64 * width;
            writer.weight().f_narrow(1, start, width)?.f_mv(&x.f_narrow(0, start, width)?)?
        }
        Component::Neuron(_, neuron) => {
            let one = writer.weight().f_select(1, neuron as i64)?;
            one.f_mul(&x.f_select(0, neuron as i64)?)?
        }
        Component::AttnBias(_) | Component::MlpBias(_) => bias(writer.bias())?,
        _ => return Ok(bias(writer.norm().and_then(Norm::bias))?.f_mul_scalar(writer.scale())?),
    };
    behind(&writer, &x, &part)
}

fn nothing<T>(component: Component) -> Result<T, AttributionError> {
    Err(AttributionError::Rows(format!("this model has no {} there", component.name())))
}

/// What a part of a branch's map comes to behind the branch's norm and factor.
fn behind(writer: &Writer<'_>, x: &Tensor, part: &Tensor) -> Result<Tensor, AttributionError> {
    let normed = match writer.norm() {
        Some(norm) => normed(Some(norm), &writer.map(x)?, part)?,
        None => part.shallow_clone(),
    };
    Ok(normed.f_mul_scalar(writer.scale())?)
}

/// A part's share of what a norm gives of `whole`, its offset aside.
fn normed(norm: Option<&Norm>, whole: &Tensor, part: &Tensor) -> Result<Tensor, AttributionError> {
    let Some(norm) = norm else { return Ok(part.shallow_clone()) };
    let centred = match norm.kind() {
        NormKind::Layer => part.f_sub(&part.f_mean(part.kind())?)?,
        NormKind::Rms => part.shallow_clone(),
    };
    let divided = centred.f_div(&norm.scale(whole)?)?;
    Ok(match norm.weight() {
        Some(weight) => divided.f_mul(weight)?.f_to_kind(part.kind())?,
        None => divided,
    })
}

/// The `k` largest and smallest, less the mean of all.
fn ranked(logits: &Tensor, k: i64) -> Result<Words, AttributionError> {
    let logits = logits.f_sub(&logits.f_mean(Kind::Double)?)?;
    let top = |largest: bool| -> Result<Vec<(i64, f64)>, AttributionError> {
        let (values, ids) = logits.f_topk(k.min(logits.size()[0]), 0, largest, true)?;
        let ids = Vec::<i64>::try_from(ids.to_device(Device::Cpu))?;
        let values = Vec::<f64>::try_from(values.to_device(Device::Cpu))?;
        Ok(ids.into_iter().zip(values).collect())
    };
    Ok(Words { raised: top(true)?, lowered: top(false)? })
}
