//! `lens import`: a Jacobian lens that another tool fitted, as a lens folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fit::config_of;
use crate::{
    job::{Job, JobError, ModelSettings, Session, Watch, claimed, shown},
    lens::artifact::{JacobianFile, LensFolder, LensKind, jacobian_tensors},
    lenses::LayerIndex,
    model::{Rules, Spec},
    results::{
        hash::sha256,
        run::{Counts, Found, Manifest, RunDir},
        words::counted,
    },
};

/// Read a Jacobian lens that another tool fitted (a .pt of the reference, TransformerLens, vllm-lens, saklas or
/// Neuronpedia), and write it as a lens folder
///
/// The file's layer k is what leaves block k: layer k + 1 here. Nothing in it is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ImportLens {
    /// The file
    #[cfg_attr(feature = "cli", arg(value_name = "FILE.pt"))]
    pub source: PathBuf,
    /// The model it was fitted on.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Folder to write; its name is the lens's
    #[cfg_attr(feature = "cli", arg(long, value_name = "LENSDIR"))]
    pub out: PathBuf,
    /// Start over in a folder that holds another lens
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedLens {
    /// The layers that it reads, as they are counted here.
    pub layers: Vec<usize>,
    /// Prompts it is a mean over, where the file says.
    pub prompts: Option<u64>,
}

impl Job for ImportLens {
    const COMMAND: &'static str = "lens import";
    type Outcome = ImportedLens;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<ImportedLens, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let bytes = std::fs::read(&self.source)
            .map_err(|e| JobError::usage(format!("cannot read {}: {e}", self.source.display())))?;
        let file = JacobianFile::decode(&self.source, &bytes).map_err(JobError::usage)?;
        self.check(&file, &session.spec)?;
        let found = ImportedLens {
            layers: file.jacobians.keys().map(|layer| layer.0).collect(),
            prompts: file.prompts,
        };
        session.announce(watch);
        if file.prompts.is_none() {
            watch.note(&format!("{}: it does not say of how many prompts", self.source.display()));
        }
        let manifest = self.manifest(&session, &file, &sha256(&bytes), watch)?;
        let dir = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch).begin(&super::fit::owns)?;
        if dir.found() == Found::Complete {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            return Ok(found);
        }
        let unembed = session.load(watch)?.unembed();
        let mut config = config_of(LensKind::Jacobian, &session, unembed, dir.manifest())?;
        config.layers.clone_from(&found.layers);
        LensFolder::write(&self.out, &config, &jacobian_tensors(&file.jacobians))?;
        dir.finish(Counts { rows: found.layers.len() as u64, ..Counts::default() }, None)?;
        Ok(found)
    }
}

impl ImportLens {
    /// Refuses a lens of a model of another shape.
    fn check(&self, file: &JacobianFile, spec: &Spec) -> Result<(), JobError> {
        let path = self.source.display();
        let (d, n) = (spec.d_model, spec.n_layers);
        if file.d_model != d {
            let got = file.d_model;
            return Err(JobError::check(format!("{path}: a lens of {got} dimensions; this model has {d}")));
        }
        let target = file.target.unwrap_or(LayerIndex(n));
        let beyond = file.jacobians.keys().find(|layer| **layer >= target);
        if target.0 > n || beyond.is_some() {
            let layer = beyond.copied().unwrap_or(target);
            return Err(JobError::check(format!(
                "{path}: it reads what leaves block {}; below what is measured (block {}) this model has no such",
                layer.0 - 1,
                target.0.min(n) - 1
            )));
        }
        Ok(())
    }

    fn manifest(
        &self,
        session: &Session,
        file: &JacobianFile,
        sha256: &str,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = session.model_manifest(self, watch)?;
        manifest.config = json!({
            "kind": LensKind::Jacobian,
            "estimator": "jacobian",
            "imported": { "file": shown(&self.source), "sha256": sha256, "about": file.about },
            "layers": file.jacobians.keys().map(|layer| layer.0).collect::<Vec<_>>(),
            "target": file.target.map_or(session.spec.n_layers, |target| target.0),
            "prompts": file.prompts,
            "rules": if file.relp { Rules::Relp } else { Rules::Exact },
        });
        Ok(manifest)
    }
}

impl ImportedLens {
    /// In a line.
    pub fn said(&self, out: &Path) -> String {
        let prompts =
            self.prompts.map_or_else(String::new, |n| format!(", a mean over {}", counted(n, "prompt")));
        format!("{}: {}{prompts}", out.display(), counted(self.layers.len(), "layer"))
    }
}
