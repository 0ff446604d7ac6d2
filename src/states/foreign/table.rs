//! Tensors `[batch, pos, …]` in memory: a row of the batch is a document.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tch::{Kind, Tensor};

use super::{Document, Foreign, ForeignError, Maker, Request, Use, Visit, names, point, width_of};
use crate::{hook::HookPoint, model::Spec};

/// Places of a document's tokens in its row of the batch, and their ids.
type Tokens = (Vec<i64>, Vec<u32>);

/// Named tensors and the token ids that they belong to.
pub(super) struct Table {
    points: Vec<HookPoint>,
    /// By point `[batch, pos, …]`.
    values: Vec<Tensor>,
    documents: Vec<Tokens>,
    lengths: Vec<usize>,
    aside: Vec<String>,
    files: Vec<PathBuf>,
}

impl Table {
    pub(super) fn open(request: &Request<'_>, spec: &Spec) -> Result<Self, ForeignError> {
        let path = request.path;
        let mut tensors = names::read(path)?;
        let (own, mask) = (names::take(&mut tensors, &names::IDS), names::take(&mut tensors, &[names::MASK]));
        let ids = match (request.token_ids, own) {
            (Some(file), _) => names::whole(file, "token ids", &names::token_ids(file)?)?,
            (None, Some(ids)) => names::whole(path, "token ids", &ids)?,
            (None, None) => {
                let names = names::IDS.join(", ");
                return Err(ForeignError::file(
                    path,
                    format!("no token ids: none of its tensors is called {names}"),
                ));
            }
        };
        let mask = mask.map(|mask| names::whole(path, names::MASK, &mask)).transpose()?;
        let documents = documents(path, &ids, mask.as_ref(), spec)?;
        let (batch, pos) = ids.size2()?;
        let mut aside = Vec::new();
        let chosen = chosen(request, spec, tensors, &mut aside)?;
        let mut values = Vec::new();
        for (point, (name, tensor)) in &chosen {
            values.push(fitting(path, name, tensor, (batch, pos), width_of(spec, *point))?);
        }
        let mut files = names::files(path)?;
        files.extend(request.token_ids.into_iter().chain(request.map).map(Path::to_path_buf));
        let lengths = documents.iter().map(|(_, ids)| ids.len()).collect();
        Ok(Self { points: chosen.into_keys().collect(), values, documents, lengths, aside, files })
    }
}

impl Foreign for Table {
    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn left_aside(&self) -> &[String] {
        &self.aside
    }

    fn is_half(&self) -> bool {
        self.values.iter().any(|value| matches!(value.kind(), Kind::Half | Kind::BFloat16))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    fn each(&self, wanted: &dyn Fn(usize) -> bool, visit: &mut Visit<'_>) -> Result<(), ForeignError> {
        for (number, (places, ids)) in self.documents.iter().enumerate().filter(|(number, _)| wanted(*number))
        {
            let places = Tensor::from_slice(places);
            let row = |value: &Tensor| {
                let row = value.f_select(0, number as i64)?.f_index_select(0, &places)?;
                row.f_reshape([ids.len() as i64, -1])?.f_to_kind(Kind::Float)
            };
            let values = self.values.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            visit(Document { number, ids: ids.clone(), values })?;
        }
        Ok(())
    }
}

/// Which tensor is what point, in the order of the pass.
fn chosen(
    request: &Request<'_>,
    spec: &Spec,
    tensors: names::Tensors,
    aside: &mut Vec<String>,
) -> Result<BTreeMap<HookPoint, (String, Tensor)>, ForeignError> {
    let map = names::map(request.map)?;
    let mut chosen: BTreeMap<HookPoint, (String, Tensor)> = BTreeMap::new();
    for (name, tensor) in unstacked(request, tensors)? {
        let found = match map.get(&name) {
            Some(None) => Use::Aside("by the map".into()),
            Some(Some(hook)) => point(hook, spec),
            None if request.maker == Maker::Hf => hidden_state(&name, spec),
            None => point(&name, spec),
        };
        let point = match found {
            Use::Aside(why) => {
                aside.push(format!("{name}: {why}"));
                continue;
            }
            Use::Point(point) => point,
        };
        if request.layers.is_some_and(|layers| !layers.contains(&point.layer(spec.n_layers))) {
            continue;
        }
        if let Some((first, other)) = chosen.get(&point) {
            // TransformerLens has several names for one hook.
            if other.size() != tensor.size() || !other.f_equal(&tensor)? {
                let (path, first) = (request.path.into(), first.clone());
                return Err(ForeignError::Twice { path, first, second: name, point });
            }
            continue;
        }
        chosen.insert(point, (name, tensor));
    }
    let last = spec.n_layers;
    if request.maker == Maker::Hf && request.layers.is_some_and(|layers| layers.contains(&last)) {
        return Err(ForeignError::Normed(last));
    }
    if chosen.is_empty() {
        let why = aside.first().map_or_else(String::new, |first| format!("; {first}"));
        return Err(ForeignError::file(request.path, format!("none of its tensors can be imported{why}")));
    }
    Ok(chosen)
}

/// transformers' `hidden_states [layers, batch, pos, d]` as one tensor each.
fn unstacked(request: &Request<'_>, tensors: names::Tensors) -> Result<names::Tensors, ForeignError> {
    if request.maker != Maker::Hf {
        return Ok(tensors);
    }
    let mut all = Vec::new();
    for (name, tensor) in tensors {
        if name == "hidden_states" && tensor.dim() == 4 {
            let states = tensor.f_unbind(0)?.into_iter().enumerate();
            all.extend(states.map(|(i, state)| (format!("hidden_states.{i}"), state)));
        } else {
            all.push((name, tensor));
        }
    }
    Ok(all)
}

/// The layer of `hidden_states.3`, `hidden_states_3` or `3`.
fn hidden_state(name: &str, spec: &Spec) -> Use {
    let last = spec.n_layers;
    let number = name.strip_prefix("hidden_states").map_or(name, |rest| rest.trim_start_matches(['.', '_']));
    match number.parse::<usize>() {
        Ok(layer) if layer < last => Use::Point(HookPoint::resid_pre(layer)),
        Ok(layer) if layer == last => Use::Aside(format!("normed already, and so not layer {last}")),
        Ok(_) => Use::Aside(format!("this model has {} hidden states", last + 1)),
        Err(_) => Use::Aside("no hidden_states.N".into()),
    }
}

/// The tensor as `[batch, pos, …]` of `width` numbers a token.
fn fitting(
    path: &Path,
    name: &str,
    tensor: &Tensor,
    (batch, pos): (i64, i64),
    width: usize,
) -> Result<Tensor, ForeignError> {
    let shape = tensor.size();
    let fits = |shape: &[i64]| {
        shape.len() > 2
            && shape[..2] == [batch, pos]
            && shape[2..].iter().try_fold(1_i64, |n, m| n.checked_mul(*m)) == Some(width as i64)
    };
    // TransformerLens can remove the batch of one document.
    let tensor = if fits(&shape) { tensor.shallow_clone() } else { tensor.f_unsqueeze(0)? };
    if !fits(&tensor.size()) || !tensor.is_floating_point() {
        let expected = format!("numbers [{batch}, {pos}, …] with {width} a token");
        return Err(ForeignError::Shape { path: path.into(), name: name.into(), got: shape, expected });
    }
    Ok(tensor)
}

/// Places and ids of the tokens of every document.
fn documents(
    path: &Path,
    ids: &Tensor,
    mask: Option<&Tensor>,
    spec: &Spec,
) -> Result<Vec<Tokens>, ForeignError> {
    if let Some(mask) = mask.filter(|mask| mask.size() != ids.size()) {
        let (got, expected) = (mask.size(), format!("{:?}, as the token ids", ids.size()));
        return Err(ForeignError::Shape { path: path.into(), name: names::MASK.into(), got, expected });
    }
    let (batch, pos) = ids.size2()?;
    let mut all = Vec::new();
    for row in 0..batch {
        let own = Vec::<i64>::try_from(ids.f_select(0, row)?)?;
        let kept: Vec<i64> = match mask {
            Some(mask) => {
                let mask = Vec::<i64>::try_from(mask.f_select(0, row)?)?;
                (0..pos).filter(|place| mask[*place as usize] != 0).collect()
            }
            None => (0..pos).collect(),
        };
        let tokens = kept.iter().map(|place| token(path, own[*place as usize], spec));
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        all.push((kept, tokens));
    }
    Ok(all)
}

/// A token of this model.
pub(super) fn token(path: &Path, id: i64, spec: &Spec) -> Result<u32, ForeignError> {
    let known = u32::try_from(id).ok().filter(|id| (*id as usize) < spec.vocab);
    known.ok_or_else(|| ForeignError::file(path, format!("token {id}, but the model has {}", spec.vocab)))
}
