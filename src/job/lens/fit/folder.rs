//! What a fit leaves behind: the lens's parameters, and what `config.json` says of it.

use std::collections::BTreeMap;

use serde_json::json;
use tch::Tensor;

use super::{Fit, Plan, ROTATED};
use crate::{
    job::{JobError, Session, Source},
    lens::artifact::{LensConfig, LensKind, ModelRef, unembed_sha256},
    lens::fit::FitTarget,
    lenses::{Readout, Unembed},
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
        let rungs = plan.rungs.iter().map(ToString::to_string).chain([ROTATED.to_owned()]);
        let mut details = manifest.config.clone();
        details["rungs"] = if self.kind == LensKind::Shared { rungs.collect() } else { json!([]) };
        Ok(LensConfig {
            site: plan.site.short_name().to_owned(),
            layers: plan.layers.iter().map(|l| l.0).collect(),
            horizons: match self.kind {
                LensKind::Tuned | LensKind::Shared | LensKind::Linear | LensKind::Jacobian => vec![1],
                LensKind::Future | LensKind::FutureVocab | LensKind::FuturePrompt => {
                    (1..=self.horizons).collect()
                }
            },
            details,
            ..config_of(self.kind, source.session, readout.unembed(), manifest)?
        })
    }
}

/// What `config.json` says of a lens of the next token at `resid_pre` whose layers are still to be named; its details
/// are what the manifest says of the job.
pub(in crate::job::lens) fn config_of(
    kind: LensKind,
    session: &Session,
    unembed: &Unembed,
    manifest: &Manifest,
) -> Result<LensConfig, JobError> {
    let sha256 = manifest.model.as_ref().map(|model| model.sha256.clone());
    Ok(LensConfig {
        kind,
        site: "resid_pre".into(),
        model: ModelRef { name: session.name(), sha256 },
        d_model: session.spec.d_model,
        n_layers: session.spec.n_layers,
        unembed_sha256: Some(unembed_sha256(unembed)?),
        tokenizer_sha256: manifest.tokenizer_sha256.clone(),
        layers: Vec::new(),
        horizons: vec![1],
        details: manifest.config.clone(),
    })
}
