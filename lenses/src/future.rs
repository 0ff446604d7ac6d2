use std::collections::BTreeMap;

use tch::Tensor;

use crate::{Affine, Error, Horizon, LayerIndex, Lens};

/// The future lens: one affine map per layer from a state to the last-layer state `horizon - 1` tokens later, read out
/// by the model's own unembedding (Pal et al. 2023, arXiv 2311.04897, the "linear model" with N = horizon - 1).
///
/// It is blind: it sees one state and none of the tokens between.
#[derive(Debug)]
pub struct FutureLens {
    name: String,
    horizon: Horizon,
    translators: BTreeMap<LayerIndex, Affine>,
}

impl FutureLens {
    /// A lens reported as `name` that predicts `horizon` tokens ahead, with a map for each layer it can read.
    pub fn new(name: impl Into<String>, horizon: Horizon, translators: BTreeMap<LayerIndex, Affine>) -> Self {
        Self { name: name.into(), horizon, translators }
    }

    /// The maps by layer.
    pub fn translators(&self) -> &BTreeMap<LayerIndex, Affine> {
        &self.translators
    }
}

impl Lens for FutureLens {
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

    fn horizon(&self) -> Horizon {
        self.horizon
    }
}
