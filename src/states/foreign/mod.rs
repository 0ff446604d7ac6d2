//! Activations that others made, read as documents of tokens with one row of states per token.
//!
//! ```text
//! names   .safetensors, .npz, .npy, or a folder of .npy: tensors [batch, pos, …] under hook names, or under any with a map
//! tl      the same of a torch.save of TransformerLens' `cache.cache_dict`, read without running it
//! hf      the same of transformers' `hidden_states`: i enters block i, and the last is normed, which is no layer
//! vllm    a folder of {request}.safetensors: hidden_states [tokens, layers, d] and token_ids
//! vllm-lens a response of its server, or a folder of them: residual_stream [layers, tokens, d], of which layer k leaves block k
//! saelens a `save_to_disk` folder: Arrow streams with a column per hook and token_ids
//! ```
//! What stands in a file of somebody else is checked against the model's shapes here, and against the model itself by
//! the job that imports it.

mod error;
mod names;
mod saelens;
mod table;
mod vllm;
mod vllm_lens;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Tensor;

pub use self::error::ForeignError;
use crate::{
    hook::HookPoint,
    model::{Spec, hook_points, width},
};

/// Who laid the files out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[allow(clippy::doc_markdown)] // the help of an option
pub enum Maker {
    /// Tensors under hook names in .safetensors, .npz or .npy files; --map renames them
    Npy,
    /// TransformerLens: torch.save(cache.cache_dict)
    Tl,
    /// transformers: hidden_states, of which the last is normed and left aside
    Hf,
    /// vLLM's hidden-states connector: a folder of safetensors, whose layers --layers names
    Vllm,
    /// vllm-lens: responses of its server (.json), or residual_stream and token_ids as .pt or .safetensors, one per
    /// request
    #[serde(rename = "vllm-lens")]
    VllmLens,
    /// SAELens' activation cache: a folder by datasets' save_to_disk
    Saelens,
}

/// Where the activations are and how they are to be read.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// A file or a folder.
    pub path: &'a Path,
    /// Who made it.
    pub maker: Maker,
    /// Token ids, where they stand in a file of their own.
    pub token_ids: Option<&'a Path>,
    /// JSON object from the names of tensors to those of hooks; null leaves a tensor aside.
    pub map: Option<&'a Path>,
    /// The layers of a file that does not name them; of others those that are wanted.
    pub layers: Option<&'a [usize]>,
}

/// A document: its tokens, and of every column a row each.
#[derive(Debug)]
pub struct Document {
    /// Which one, from 0.
    pub number: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// By column `[tokens, width]`, f32 on the CPU.
    pub values: Vec<Tensor>,
}

/// What is done with each document.
pub type Visit<'v> = dyn FnMut(Document) -> Result<(), ForeignError> + 'v;

/// Activations of somebody else.
pub trait Foreign {
    /// What the columns are, in the order of the pass.
    fn points(&self) -> &[HookPoint];

    /// What was left aside, each with its reason.
    fn left_aside(&self) -> &[String] {
        &[]
    }

    /// Whether the numbers were stored in f16 or bf16, which rounds them.
    fn is_half(&self) -> bool;

    /// Every file that is read.
    fn files(&self) -> Vec<PathBuf>;

    /// Tokens of every document.
    fn lengths(&self) -> &[usize];

    /// Shows the documents that are wanted, in order.
    ///
    /// # Errors
    /// Files that changed or are damaged, and what `visit` says.
    fn each(&self, wanted: &dyn Fn(usize) -> bool, visit: &mut Visit<'_>) -> Result<(), ForeignError>;
}

/// Opens the activations and compares their shapes with the model's.
///
/// # Errors
/// What cannot be read, has no tokens, or does not fit the model.
pub fn open(request: &Request<'_>, spec: &Spec) -> Result<Box<dyn Foreign>, ForeignError> {
    Ok(match request.maker {
        Maker::Npy | Maker::Tl | Maker::Hf => Box::new(table::Table::open(request, spec)?),
        Maker::Vllm => Box::new(vllm::Requests::open(request, spec)?),
        Maker::VllmLens => Box::new(vllm_lens::Responses::open(request, spec)?),
        Maker::Saelens => Box::new(saelens::Cache::open(request, spec)?),
    })
}

/// What becomes of a tensor.
enum Use {
    /// It is what a point of this model sees.
    Point(HookPoint),
    /// It is left aside, for a reason.
    Aside(String),
}

/// The point of this model with a hook name, if a row per token can be stored of it.
fn point(name: &str, spec: &Spec) -> Use {
    let Some(point) = HookPoint::parse(name) else {
        return Use::Aside("no hook of any model has this name".into());
    };
    if !hook_points(spec).contains(&point) {
        return Use::Aside(format!("this model ({} layers) has no such hook", spec.n_layers));
    }
    if width(spec, point).is_none() { Use::Aside("not one row per token".into()) } else { Use::Point(point) }
}

/// Numbers of one token at a point.
fn width_of(spec: &Spec, point: HookPoint) -> usize {
    width(spec, point).unwrap_or_default().iter().product()
}
