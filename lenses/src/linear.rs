use std::collections::BTreeMap;

use tch::Tensor;

use crate::{Affine, Error, LayerIndex, Lens};

/// Linear shortcuts: the least-squares map from each layer to a later one, read out from there (Din et al. 2023,
/// "Jump to Conclusions", arXiv 2303.09435).
///
/// With a target below the last layer it gives a state of that layer; reading it out is then the logit lens there.
#[derive(Debug)]
pub struct LinearLens {
    name: String,
    target: LayerIndex,
    translators: BTreeMap<LayerIndex, Affine>,
}

impl LinearLens {
    /// A lens reported as `name` that maps to layer `target`, with a map for each layer it can read.
    pub fn new(
        name: impl Into<String>,
        target: LayerIndex,
        translators: BTreeMap<LayerIndex, Affine>,
    ) -> Self {
        Self { name: name.into(), target, translators }
    }

    /// The layer it maps to.
    pub fn target(&self) -> LayerIndex {
        self.target
    }

    /// The maps by layer.
    pub fn translators(&self) -> &BTreeMap<LayerIndex, Affine> {
        &self.translators
    }
}

impl Lens for LinearLens {
    fn name(&self) -> &str {
        &self.name
    }

    fn reads(&self, layer: LayerIndex) -> bool {
        self.translators.contains_key(&layer)
    }

    fn transform(&self, layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        let no_translator = || Error::NoTranslator { lens: self.name.clone(), layer };
        self.translators.get(&layer).ok_or_else(no_translator)?.forward(resid)
    }
}
