//! `convert`: a finished run in the files of another tool, without a model.

mod exported;
mod found;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Job, JobError, Layers, Watch, claimed, new_manifest, shown};
use crate::{
    results::run::{Counts, Found, Manifest, RunDir},
    states::convert::{Converted, DATA},
};

/// The folder of vllm-lens' responses.
const RESPONSES: &str = "responses";
/// The folder of logitlenskit's files.
const VIEWS: &str = "logitlenskit";
/// The file of a Jacobian lens.
const LENS: &str = "lens.pt";
/// The folder of Neuronpedia's vectors.
const VECTORS: &str = "vectors";

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::doc_markdown)] // the help of an option
pub enum Target {
    /// Of an export: a Hugging Face dataset for datasets.load_from_disk, a row per token
    #[default]
    Hf,
    /// Of an export: the cache that SAELens trains from, a row per context
    Saelens,
    /// Of an export: responses of vllm-lens' server, one per document
    VllmLens,
    /// Of a view --out: what logitlenskit's widget shows
    Logitlenskit,
    /// Of a Jacobian lens: the .pt that the reference, TransformerLens, saklas and vllm-lens read
    JacobianLens,
    /// Of a probe sweep, a saved probe or FILE.safetensors:KEY: vectors as Neuronpedia takes them
    Neuronpedia,
}

/// Write a finished run in the files of another tool: nothing is computed, no model is needed
///
/// Exports (and imports) become datasets and caches of activations, views the page of another widget, Jacobian
/// lenses a .pt, probes and directions vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Convert {
    /// The run: an export, a view --out, a Jacobian lens, a probe sweep or a file of directions
    #[cfg_attr(feature = "cli", arg(value_name = "RUN"))]
    pub source: PathBuf,
    /// Whose files to write
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "TOOL"))]
    pub to: Target,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Of saelens: tokens of a context; by default those of the export's windows
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<NonZeroUsize>,
    /// Of neuronpedia: its name of the model, such as gpt2-small; by default the name of the model's folder
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Of neuronpedia: the strength that steering begins with; by default 10, as there
    #[cfg_attr(feature = "cli", arg(long, value_name = "X"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Start over in a folder that holds another conversion
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

impl Default for Convert {
    fn default() -> Self {
        Self {
            source: PathBuf::new(),
            to: Target::default(),
            out: PathBuf::new(),
            layers: None,
            context: None,
            model_id: None,
            strength: None,
            force: false,
        }
    }
}

impl Job for Convert {
    const COMMAND: &'static str = "convert";
    type Outcome = Converted;

    crate::job::writes_out!();

    fn answer(&self, found: Converted) -> Result<Value, JobError> {
        Ok(self.json(found))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Converted, JobError> {
        self.check()?;
        match self.to {
            Target::Hf | Target::Saelens | Target::VllmLens => exported::convert(self, watch),
            Target::Logitlenskit => found::trajectories(self, watch),
            Target::JacobianLens => found::jacobians(self, watch),
            Target::Neuronpedia => found::vectors(self, watch),
        }
    }
}

impl Convert {
    /// What was written, for programs.
    pub fn json(&self, found: Converted) -> Value {
        json!({
            "out": shown(&self.out),
            "to": self.to,
            "records": found.records,
            "tokens": found.tokens,
            "left_out": found.left_out,
        })
    }

    /// Refuses settings of another tool's files.
    fn check(&self) -> Result<(), JobError> {
        let own = [
            ("context", self.context.is_some(), Target::Saelens),
            ("model_id", self.model_id.is_some(), Target::Neuronpedia),
            ("strength", self.strength.is_some(), Target::Neuronpedia),
        ];
        if let Some((name, ..)) = own.iter().find(|(_, given, of)| *given && *of != self.to) {
            return Err(JobError::setting(name, "the files that are asked for have none"));
        }
        if self.layers.is_some() && self.to == Target::Logitlenskit {
            return Err(JobError::setting(
                "layers",
                "a view is converted whole; choose them when it is made",
            ));
        }
        let place = |path: &Path| std::fs::canonicalize(path).ok();
        if place(&self.out).is_some_and(|out| Some(out) == place(&self.source)) {
            return Err(JobError::setting("out", "it is the run itself, which would be replaced"));
        }
        if self.strength.is_some_and(|x| !x.is_finite()) {
            return Err(JobError::setting("strength", "expected a number"));
        }
        Ok(())
    }

    /// Whether a layer is wanted.
    fn wants(&self, layer: usize) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.0.contains(&layer))
    }

    /// A manifest of the conversion of a run, about whose model and text it says the same.
    fn manifest(&self, of: Option<&Manifest>, source: &Value) -> Manifest {
        let mut manifest = new_manifest(self);
        if let Some(of) = of {
            manifest.model.clone_from(&of.model);
            manifest.tokenizer_sha256.clone_from(&of.tokenizer_sha256);
            manifest.bos.clone_from(&of.bos);
            manifest.dtype.clone_from(&of.dtype);
            manifest.data.clone_from(&of.data);
            manifest.seed = of.seed;
        }
        manifest.config = json!({
            "to": self.to,
            "source": source,
            "layers": self.layers.as_ref().map(|layers| layers.0.clone()),
            "context": self.context,
            "model_id": self.model_id,
            "strength": self.strength,
        });
        manifest
    }

    /// Takes hold of the folder, has it filled, and declares it complete; where it is complete, says so again.
    fn fill(
        &self,
        manifest: Manifest,
        watch: &dyn Watch,
        write: impl FnOnce(&str) -> Result<Converted, JobError>,
    ) -> Result<Converted, JobError> {
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            let counts = Manifest::read(&self.out)?.map(|manifest| manifest.counts).unwrap_or_default();
            return Ok(Converted { records: counts.rows, tokens: counts.tokens, left_out: 0 });
        }
        let dir = claim.begin(&owns)?;
        let found = write(&dir.manifest().job.clone())?;
        dir.finish(Counts { rows: found.records, tokens: found.tokens, ..Counts::default() }, None)?;
        Ok(found)
    }
}

/// The files of a conversion.
fn owns(relative: &Path) -> bool {
    let name = relative.to_string_lossy();
    let data = ["state.json", "dataset_info.json", DATA, LENS].contains(&&*name);
    data || relative.starts_with(RESPONSES) || relative.starts_with(VIEWS) || relative.starts_with(VECTORS)
}
