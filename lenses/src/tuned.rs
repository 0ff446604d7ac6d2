use std::collections::BTreeMap;

use tch::Tensor;

use crate::{Affine, Error, LayerIndex, Lens};

/// The tuned lens: one residual affine translator per layer, read out by the model's own unembedding (Belrose et al.
/// 2023, arXiv 2303.08112).
#[derive(Debug)]
pub struct TunedLens {
    name: String,
    rung: Option<(String, String)>,
    translators: BTreeMap<LayerIndex, Affine>,
}

impl TunedLens {
    /// A lens reported as `name`, with a translator for each layer it can read.
    pub fn new(name: impl Into<String>, translators: BTreeMap<LayerIndex, Affine>) -> Self {
        Self { name: name.into(), rung: None, translators }
    }

    /// One of the lenses of a shared folder, reported as `folder:rung`.
    pub fn of_rung(folder: &str, rung: &str, translators: BTreeMap<LayerIndex, Affine>) -> Self {
        let both = Some((folder.to_owned(), rung.to_owned()));
        Self { rung: both, ..Self::new(format!("{folder}:{rung}"), translators) }
    }

    /// The translators by layer.
    pub fn translators(&self) -> &BTreeMap<LayerIndex, Affine> {
        &self.translators
    }
}

impl Lens for TunedLens {
    fn name(&self) -> &str {
        &self.name
    }

    fn rung(&self) -> Option<(&str, &str)> {
        self.rung.as_ref().map(|(folder, rung)| (folder.as_str(), rung.as_str()))
    }

    fn reads(&self, layer: LayerIndex) -> bool {
        self.translators.contains_key(&layer)
    }

    fn transform(&self, layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        let no_translator = || Error::NoTranslator { lens: self.name.clone(), layer };
        self.translators.get(&layer).ok_or_else(no_translator)?.forward(resid)
    }
}
