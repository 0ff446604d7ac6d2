//! Which tensors a model needs, found out without reading one.

use std::{cell::RefCell, collections::HashSet};

use super::Loader;
use crate::model::{ModelError, Positions, Spec, Weights};

/// The tensors that a model asks for, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Needed {
    names: HashSet<String>,
    faults: Vec<ModelError>,
}

impl Needed {
    pub(super) fn add(&mut self, name: &str, found: Result<(), ModelError>) {
        if self.names.insert(name.to_owned()) {
            self.faults.extend(found.err());
        }
    }

    /// Whether the tensor `name` is asked for.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Tensors that are missing, or have another shape or type than they must.
    pub fn faults(&self) -> &[ModelError] {
        &self.faults
    }
}

/// Asks for every tensor of a model as loading it does, and reads none.
///
/// # Errors
/// When libtorch refuses an operation.
pub fn needed(weights: &Weights, spec: &Spec) -> Result<Needed, ModelError> {
    let loader = Loader { dry: Some(RefCell::default()), ..Loader::new(weights, spec) };
    let _no_grad = tch::no_grad_guard();
    let embed = loader.embed(spec.vocab as i64, spec.d_model as i64)?;
    if let Positions::Learned { .. } = spec.positions {
        loader.positions(embed.kind(), &embed)?;
    }
    loader.token_type()?;
    loader.check_frequencies()?;
    if spec.embed_norm {
        loader.norm(&loader.body(spec.names.embed_norm))?;
    }
    for i in 0..spec.n_layers {
        loader.block(i)?;
    }
    loader.unembed(spec.tied.then_some(embed))?;
    Ok(loader.dry.unwrap_or_default().into_inner())
}
