//! What vllm-lens keeps: a file per request, `residual_stream [layers, tokens, d]`. Its layer k is what leaves block k,
//! our k+1.
//!
//! A response of its server is JSON, with token ids where they were asked for (`return_token_ids`); what its own `LLM`
//! gives is saved as people save tensors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{Document, Foreign, ForeignError, Request, Visit, names, table::token};
use crate::{hook::HookPoint, model::Spec, states::encoded::Encoded};

/// What a response has for us.
#[derive(Deserialize)]
struct Response {
    activations: Activations,
    prompt_token_ids: Option<Vec<i64>>,
    #[serde(default)]
    choices: Vec<Choice>,
    /// Layers in the numbers of vllm-lens; `convert` writes them.
    output_residual_stream: Option<Vec<usize>>,
}

#[derive(Deserialize)]
struct Activations {
    residual_stream: Encoded,
}

#[derive(Deserialize)]
struct Choice {
    prompt_token_ids: Option<Vec<i64>>,
    token_ids: Option<Vec<i64>>,
}

/// One request.
struct Kept {
    ids: Vec<u32>,
    /// `[layers, tokens, d]`.
    stream: Tensor,
    half: bool,
    /// In the numbers of vllm-lens, where the file says them.
    layers: Option<Vec<usize>>,
}

/// Requests by the names of their files.
pub(super) struct Responses {
    points: Vec<HookPoint>,
    files: Vec<PathBuf>,
    lengths: Vec<usize>,
    half: bool,
    spec: Spec,
}

impl Responses {
    pub(super) fn open(request: &Request<'_>, spec: &Spec) -> Result<Self, ForeignError> {
        let files = files(request.path)?;
        let (mut points, mut lengths, mut half) = (Vec::new(), Vec::new(), false);
        for path in &files {
            let kept = read(path, spec)?;
            let own = layers(path, &kept, request.layers, spec)?;
            if !lengths.is_empty() && own != points {
                return Err(ForeignError::file(path, "it holds other layers than the files before it"));
            }
            points = own;
            lengths.push(kept.ids.len());
            half |= kept.half;
        }
        Ok(Self { points, files, lengths, half, spec: spec.clone() })
    }
}

impl Foreign for Responses {
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
            let path = &self.files[number];
            let Kept { ids, stream, .. } = read(path, &self.spec)?;
            if ids.len() != self.lengths[number] || stream.size()[0] as usize != self.points.len() {
                return Err(ForeignError::file(path, "it has changed while it was read"));
            }
            let layers = (0..self.points.len() as i64).map(|k| stream.f_select(0, k)?.f_to_kind(Kind::Float));
            visit(Document { number, ids, values: layers.collect::<Result<_, _>>()? })?;
        }
        Ok(())
    }
}

/// The layers of a file: what it says itself, what was said of it, or every block's output.
fn layers(
    path: &Path,
    kept: &Kept,
    asked: Option<&[usize]>,
    spec: &Spec,
) -> Result<Vec<HookPoint>, ForeignError> {
    let n = kept.stream.size()[0] as usize;
    let own = kept.layers.as_ref().map(|layers| layers.iter().map(|k| k + 1).collect::<Vec<_>>());
    let layers = match (own, asked) {
        (Some(own), Some(asked)) if own != asked => {
            let line = format!("it holds the layers {own:?} (vllm-lens counts from 0), not {asked:?}");
            return Err(ForeignError::file(path, line));
        }
        (Some(own), _) => own,
        (None, Some(asked)) => asked.to_vec(),
        (None, None) if n == spec.n_layers => (1..=n).collect(),
        (None, None) => {
            let line = format!(
                "it holds {n} of {} layers and does not say which: layer k of vllm-lens is k+1 here; name them",
                spec.n_layers
            );
            return Err(ForeignError::file(path, line));
        }
    };
    if layers.len() != n {
        return Err(ForeignError::file(path, format!("it holds {n} layers, not {}", layers.len())));
    }
    if let Some(wrong) = layers.iter().find(|layer| **layer == 0 || **layer > spec.n_layers) {
        let line = format!("no layer {wrong}; vllm-lens keeps what leaves blocks: 1 to {}", spec.n_layers);
        return Err(ForeignError::file(path, line));
    }
    Ok(layers.into_iter().map(HookPoint::resid_pre).collect())
}

fn read(path: &Path, spec: &Spec) -> Result<Kept, ForeignError> {
    let json = path.extension().is_some_and(|end| end == "json");
    let (stream, half, ids, layers) = if json { response(path, spec)? } else { saved(path)? };
    check_shape(path, &stream.size(), spec)?;
    // The last token that was sampled was not run.
    let tokens = stream.size()[1] as usize;
    if ids.len() != tokens && ids.len() != tokens + 1 {
        let line = format!("{} token ids, but states of {tokens} tokens", ids.len());
        return Err(ForeignError::file(path, line));
    }
    let ids = ids[..tokens].iter().map(|id| token(path, *id, spec)).collect::<Result<_, _>>()?;
    Ok(Kept { ids, stream, half, layers })
}

/// That a tensor is of layers of this model: before its numbers are unpacked, which may be more than fit.
fn check_shape(path: &Path, shape: &[i64], spec: &Spec) -> Result<(), ForeignError> {
    let (most, width) = (spec.n_layers as i64, spec.d_model as i64);
    if matches!(*shape, [layers, tokens, d] if (1..=most).contains(&layers) && tokens >= 0 && d == width) {
        return Ok(());
    }
    let (name, expected) = ("residual_stream".into(), format!("[1 to {most} layers, tokens, {width}]"));
    Err(ForeignError::Shape { path: path.into(), name, got: shape.to_vec(), expected })
}

/// States, whether they were rounded, token ids, and layers where they are named.
type Parts = (Tensor, bool, Vec<i64>, Option<Vec<usize>>);

/// A response of the server.
fn response(path: &Path, spec: &Spec) -> Result<Parts, ForeignError> {
    let text = fs::read(path).map_err(ForeignError::io(path))?;
    let wrong =
        |why: serde_json::Error| ForeignError::file(path, format!("no response with activations: {why}"));
    let response: Response = serde_json::from_slice(&text).map_err(wrong)?;
    let stream = &response.activations.residual_stream;
    check_shape(path, &stream.shape, spec)?;
    let tensor =
        stream.tensor().map_err(|why| ForeignError::file(path, format!("residual_stream: {why}")))?;
    let choice = response.choices.into_iter().next();
    let (prompt, sampled) = choice.map_or((None, None), |one| (one.prompt_token_ids, one.token_ids));
    let mut ids = response.prompt_token_ids.or(prompt).ok_or_else(|| {
        ForeignError::file(
            path,
            "it has no token ids: `prompt_token_ids` come when return_token_ids is asked for",
        )
    })?;
    ids.extend(sampled.unwrap_or_default());
    Ok((tensor, stream.is_half(), ids, response.output_residual_stream))
}

/// Tensors under the same names.
fn saved(path: &Path) -> Result<Parts, ForeignError> {
    let mut tensors = names::read(path)?;
    let none = |name: &str| ForeignError::file(path, format!("it has no `{name}`"));
    let stream = names::take(&mut tensors, &["residual_stream"]).ok_or_else(|| none("residual_stream"))?;
    let ids = names::take(&mut tensors, &names::IDS).ok_or_else(|| none("token_ids"))?;
    let ids = Vec::<i64>::try_from(names::whole(path, "token_ids", &ids)?.f_flatten(0, -1)?)?;
    if !stream.is_floating_point() {
        return Err(ForeignError::file(path, format!("residual_stream is {:?}, no states", stream.kind())));
    }
    let half = matches!(stream.kind(), Kind::Half | Kind::BFloat16);
    Ok((stream, half, ids, None))
}

/// A file, or those of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>, ForeignError> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(ForeignError::io(path))? {
        let file = entry.map_err(ForeignError::io(path))?.path();
        let end = file.extension().and_then(|end| end.to_str());
        let own = file.file_name().is_some_and(|name| name == "manifest.json");
        if end.is_some_and(|end| ["json", "safetensors", "pt"].contains(&end)) && !own {
            all.push(file);
        }
    }
    all.sort();
    let none = || ForeignError::file(path, "no .json, .safetensors or .pt file is in this folder");
    if all.is_empty() { Err(none()) } else { Ok(all) }
}
