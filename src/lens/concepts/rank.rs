//! Ranks of words under a lens, layer by layer.

use layerscope_lenses::{Ask, LayerIndex, Lens, Readout};
use tch::{Kind, Tensor};

use super::{Concept, Item};
use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError},
    states::check_prompt,
};

/// The ranks of an item's words under one lens, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranks {
    /// The layers read.
    pub layers: Vec<usize>,
    /// Of every own word, by layer: of its spellings the one with the smallest rank.
    pub own: Vec<Vec<u64>>,
    /// The same of the control's words.
    pub other: Vec<Vec<u64>>,
}

/// The ranks of an item's words under every lens, at the prompt's last position, at those of `layers` that the lens
/// reads.
///
/// # Errors
/// When the prompt does not fit the model, a state is not finite, or a lens fails.
pub fn ranks(
    model: &Model,
    readout: &Readout,
    lenses: &[Box<dyn Lens>],
    layers: &[usize],
    item: &Item,
) -> Result<Vec<Ranks>, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let points: Vec<HookPoint> = layers.iter().map(|layer| HookPoint::resid_pre(*layer)).collect();
    let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
    model.forward(&Tensor::from_slice(&item.ids).unsqueeze(0), &mut capture)?;
    let last = |(layer, point): (&usize, &HookPoint)| -> Result<(usize, Tensor), ModelError> {
        let missing = || ModelError::Input(format!("{point} was not computed"));
        let states = capture.get(*point).ok_or_else(missing)?;
        check_prompt(&states.select(0, 0), *point)?;
        let state = states.select(1, -1).to_kind(Kind::Float);
        Ok((*layer, state))
    };
    let states: Vec<(usize, Tensor)> = layers.iter().zip(&points).map(last).collect::<Result<_, _>>()?;
    lenses.iter().map(|lens| under(readout, lens.as_ref(), &states, item)).collect()
}

/// Under one lens.
fn under(
    readout: &Readout,
    lens: &dyn Lens,
    states: &[(usize, Tensor)],
    item: &Item,
) -> Result<Ranks, ModelError> {
    let read: Vec<&(usize, Tensor)> =
        states.iter().filter(|(layer, _)| lens.reads(LayerIndex(*layer))).collect();
    let carried = read.iter().map(|(layer, state)| lens.transform(LayerIndex(*layer), state));
    let carried = carried.collect::<Result<Vec<_>, _>>()?;
    let n = readout.normalize(&Tensor::f_cat(&carried, 0)?)?;
    let forms: Vec<i64> = item.own.iter().chain(&item.other).flat_map(|word| word.forms.clone()).collect();
    let lists: Vec<Vec<i64>> = forms.iter().map(|form| vec![*form; read.len()]).collect();
    let lists: Vec<&[i64]> = lists.iter().map(Vec::as_slice).collect();
    let found = readout.sweep_exactly(&n, Ask { tokens: &lists, ..Ask::default() })?;
    let mut each = found.tokens.iter();
    let mut of = |words: &[Concept]| -> Vec<Vec<u64>> {
        let best = |word: &Concept| {
            let spellings: Vec<_> = each.by_ref().take(word.forms.len()).collect();
            let at = |row: usize| spellings.iter().map(|read| read.rank[row] as u64 + 1).min().unwrap_or(0);
            (0..read.len()).map(at).collect()
        };
        words.iter().map(best).collect()
    };
    let (own, other) = (of(&item.own), of(&item.other));
    Ok(Ranks { layers: read.iter().map(|(layer, _)| *layer).collect(), own, other })
}
