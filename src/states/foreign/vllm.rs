//! vLLM's hidden-states connector: a file per request, `hidden_states [tokens, layers, d]` and `token_ids`. Which
//! layers these are does not stand in it. Layer i is what enters block i, and L what leaves the last one, not normed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tch::{Kind, Tensor};

use super::{Document, Foreign, ForeignError, Request, Visit, names, table::token};
use crate::{hook::HookPoint, model::Spec};

/// A folder of requests, by name.
pub(super) struct Requests {
    points: Vec<HookPoint>,
    files: Vec<PathBuf>,
    lengths: Vec<usize>,
    half: bool,
    spec: Spec,
}

impl Requests {
    pub(super) fn open(request: &Request<'_>, spec: &Spec) -> Result<Self, ForeignError> {
        let path = request.path;
        let Some(layers) = request.layers else {
            return Err(ForeignError::file(path, "its files do not say which layers they hold: name them"));
        };
        if let Some(layer) = layers.iter().find(|layer| **layer > spec.n_layers) {
            return Err(ForeignError::file(
                path,
                format!("no layer {layer}; this model has 0 to {}", spec.n_layers),
            ));
        }
        let points = layers.iter().map(|layer| HookPoint::resid_pre(*layer)).collect();
        let files = files(path)?;
        let mut found = Self { points, files, lengths: Vec::new(), half: false, spec: spec.clone() };
        for number in 0..found.files.len() {
            let (ids, states) = found.read(number)?;
            found.lengths.push(ids.len());
            found.half |= matches!(states.kind(), Kind::Half | Kind::BFloat16);
        }
        Ok(found)
    }

    /// Tokens and `[tokens, layers, d]` of a file.
    fn read(&self, number: usize) -> Result<(Vec<u32>, Tensor), ForeignError> {
        let path = &self.files[number];
        let mut tensors = names::read(path)?;
        let none = |name: &str| ForeignError::file(path, format!("it has no `{name}`"));
        let ids = names::take(&mut tensors, &["token_ids"]).ok_or_else(|| none("token_ids"))?;
        let states = names::take(&mut tensors, &["hidden_states"]).ok_or_else(|| none("hidden_states"))?;
        let ids = Vec::<i64>::try_from(names::whole(path, "token_ids", &ids)?.f_flatten(0, -1)?)?;
        let expected = [ids.len() as i64, self.points.len() as i64, self.spec.d_model as i64];
        if states.size() != expected || !states.is_floating_point() {
            let (name, expected) = ("hidden_states".into(), format!("{expected:?}: tokens, layers, width"));
            return Err(ForeignError::Shape { path: path.clone(), name, got: states.size(), expected });
        }
        let ids = ids.into_iter().map(|id| token(path, id, &self.spec)).collect::<Result<_, _>>()?;
        Ok((ids, states))
    }
}

impl Foreign for Requests {
    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn is_half(&self) -> bool {
        self.half
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    fn each(&self, wanted: &dyn Fn(usize) -> bool, visit: &mut Visit<'_>) -> Result<(), ForeignError> {
        for number in (0..self.files.len()).filter(|number| wanted(*number)) {
            let (ids, states) = self.read(number)?;
            if ids.len() != self.lengths[number] {
                return Err(ForeignError::file(&self.files[number], "it has changed while it was read"));
            }
            let layers =
                (0..self.points.len() as i64).map(|layer| states.f_select(1, layer)?.f_to_kind(Kind::Float));
            visit(Document { number, ids, values: layers.collect::<Result<_, _>>()? })?;
        }
        Ok(())
    }
}

/// The files of finished requests; one that is being written has a `.lock` beside it.
fn files(path: &Path) -> Result<Vec<PathBuf>, ForeignError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(ForeignError::io(path))? {
        let file = entry.map_err(ForeignError::io(path))?.path();
        if file.extension().is_some_and(|end| end == "safetensors") {
            all.push(file);
        }
    }
    all.sort();
    if all.is_empty() {
        Err(ForeignError::file(path, "no .safetensors file is in this folder"))
    } else {
        Ok(all)
    }
}
