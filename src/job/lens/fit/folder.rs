//! What a fit leaves behind: the lens's parameters, and what `config.json` says of it.

use std::collections::BTreeMap;

use serde_json::json;
use tch::Tensor;

use super::{Fit, Plan, ROTATED};
use crate::{
    job::{JobError, Source},
    lens::artifact::{LensConfig, LensKind, ModelRef, unembed_sha256},
    lens::fit::FitTarget,
    lenses::Readout,
    results::run::Manifest,
};

impl Fit {
    /// The parameters that are kept: the best held-out translators; of closed forms, themselves.
    pub(super) fn tensors(
        &self,
        plan: &Plan,
        targets: &[FitTarget],
    ) -> Result<BTreeMap<String, Tensor>, JobError> {
        let mut tensors = BTreeMap::new();
        for target in targets {
            let closed = target.fitter.recipe().steps == 0;
            for (place, layer) in plan.layers.iter().enumerate() {
                let map = if closed {
                    target.fitter.translators().whole(place)?
                } else {
                    target.fitter.best()[place].1.copy()
                };
                let prefix = match self.kind {
                    LensKind::Tuned | LensKind::Linear => format!("layer.{layer}"),
                    LensKind::Future
                    | LensKind::FutureVocab
                    | LensKind::FuturePrompt
                    | LensKind::Jacobian => {
                        format!("layer.{layer}.horizon.{}", target.horizon)
                    }
                    LensKind::Shared => format!("{}.layer.{layer}", target.name),
                };
                tensors.insert(format!("{prefix}.weight"), map.weight);
                tensors.insert(format!("{prefix}.bias"), map.bias);
            }
        }
        Ok(tensors)
    }

    /// What `config.json` says.
    pub(super) fn lens_config(
        &self,
        source: &Source<'_>,
        plan: &Plan,
        readout: &Readout,
        manifest: &Manifest,
    ) -> Result<LensConfig, JobError> {
        let spec = &source.session.spec;
        let rungs = plan.rungs.iter().map(ToString::to_string).chain([ROTATED.to_owned()]);
        let mut details = manifest.config.clone();
        details["rungs"] = if self.kind == LensKind::Shared { rungs.collect() } else { json!([]) };
        Ok(LensConfig {
            kind: self.kind,
            site: plan.site.short_name().to_owned(),
            model: model_ref(source, manifest),
            d_model: spec.d_model,
            n_layers: spec.n_layers,
            unembed_sha256: Some(unembed_sha256(readout.unembed())?),
            tokenizer_sha256: manifest.tokenizer_sha256.clone(),
            layers: plan.layers.iter().map(|l| l.0).collect(),
            horizons: match self.kind {
                LensKind::Tuned | LensKind::Shared | LensKind::Linear | LensKind::Jacobian => vec![1],
                LensKind::Future | LensKind::FutureVocab | LensKind::FuturePrompt => {
                    (1..=self.horizons).collect()
                }
            },
            details,
        })
    }
}

/// The model of a lens, as its folder names it.
pub(super) fn model_ref(source: &Source<'_>, manifest: &Manifest) -> ModelRef {
    ModelRef { name: source.session.name(), sha256: manifest.model.as_ref().map(|m| m.sha256.clone()) }
}
