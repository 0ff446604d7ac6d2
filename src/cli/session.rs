//! From `--model` to a loaded model: everything cheap is checked before weights are read.

use std::{
    ffi::OsStr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use layerscope::{
    model::{Config, Model, Spec, Weights, settle, spec},
    results::run::{BosRecord, Compute, Manifest, ModelRecord},
    results::words::counted,
    sources::device::set_threads,
    sources::hub::{self, HubError, ModelDir},
    sources::text::{Bos, BosPolicy, TextError, Tokenizer},
};
use serde_json::json;
use tch::{Device, Kind};

use super::{
    args::ModelArgs,
    exit::Failure,
    output::{Output, argv},
};

/// A model that can be loaded, and what was found out about it.
pub(crate) struct Session {
    pub(crate) dir: ModelDir,
    pub(crate) spec: Spec,
    pub(crate) device: Device,
    pub(crate) device_note: String,
    pub(crate) kind: Kind,
    pub(crate) stored: Option<Kind>,
    pub(crate) parameters: u64,
    pub(crate) threads: usize,
    output: Output,
}

impl Session {
    /// Finds the model (fetching it if it is a hub id that is not cached) and reads everything but the weights.
    pub(crate) fn open(args: &ModelArgs, output: Output) -> Result<Self, Failure> {
        let threads = set_threads(args.threads.map(NonZeroUsize::get));
        let choice = args.device.choose().map_err(Failure::usage)?;
        let dir = hub::resolve(&args.model, args.revision.as_deref(), &mut hub::Bar::new())
            .map_err(|e| no_folder_either(&args.model, e))?;
        let spec = spec(&Config::read(&dir.path)?)?;
        let weights = Weights::open(&dir.path, Kind::Float, Device::Cpu)?;
        let claimed = spec.tied;
        let spec = settle(spec, &weights)?;
        if claimed && !spec.tied {
            output.warn("the head is tied by config.json, but another one is stored; that is used, as by transformers");
        }
        let (stored, parameters) = weights.stored();
        let kind = args.dtype.choose(choice.device, stored.unwrap_or(Kind::Float));
        if let Some(warning) = kind.warning {
            output.warn(warning);
        }
        let (device, device_note) = (choice.device, choice.note);
        let kind = kind.kind;
        Ok(Self { dir, spec, device, device_note, kind, stored, parameters, threads, output })
    }

    /// The model's folder.
    pub(crate) fn path(&self) -> &Path {
        &self.dir.path
    }

    /// What the model is called in messages: the hub id, or the folder's name.
    pub(crate) fn name(&self) -> String {
        let folder = || PathBuf::from(&self.dir.path).file_name().map(|n| n.to_string_lossy().into_owned());
        self.dir.id.clone().or_else(folder).unwrap_or_else(|| self.spec.family.to_owned())
    }

    /// The model's tokenizer, with the BOS policy decided.
    pub(crate) fn tokenizer(&self, args: &ModelArgs) -> Result<Tokenizer, TextError> {
        let tokenizer = Tokenizer::load(&self.dir.path, args.bos)?;
        if let [first, rest @ ..] = tokenizer.check_vocab(self.spec.vocab)?.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            self.output.warn(format!(
                "the model's {} embedding rows have none for the added token `{}`{more}; a text that uses it is refused",
                self.spec.vocab,
                first.escape_debug()
            ));
        }
        for warning in tokenizer.warnings() {
            self.output.warn(warning);
        }
        Ok(tokenizer)
    }

    /// Says what runs where, in a line.
    pub(crate) fn announce(&self, output: Output) {
        let (s, n) = (&self.spec, super::output::human(self.parameters, ""));
        output.note(format!(
            "{} ({}): {} × {}, {n} parameters; {} on {}",
            self.name(),
            s.family,
            counted(s.n_layers, "layer"),
            s.d_model,
            kind_name(self.kind),
            self.device_note
        ));
    }

    /// Reads the weights.
    pub(crate) fn load(&self, output: Output) -> Result<Model, Failure> {
        let bar = output.bar("loading", "blocks", Some(self.spec.n_layers as u64));
        let model =
            Model::load(&self.dir.path, self.kind, self.device, |done, _| bar.set_position(done as u64));
        bar.finish_and_clear();
        Ok(model?)
    }

    /// A manifest with everything filled in that the model and its tokenizer determine.
    pub(crate) fn manifest(
        &self,
        kind: &str,
        tokenizer: &Tokenizer,
        policy: BosPolicy,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = self.model_manifest(kind, output)?;
        let bos = tokenizer.bos();
        manifest.tokenizer_sha256 = Some(hub::tokenizer_sha256(self.path())?);
        manifest.bos = Some(BosRecord {
            policy: format!("{policy:?}").to_lowercase(),
            id: bos.id,
            prefix: if bos.prefix.len() > 1 { bos.prefix.clone() } else { Vec::new() },
            token: bos.token.clone(),
            reason: bos.reason.clone(),
        });
        Ok(manifest)
    }

    /// The same of a job that reads no text.
    pub(crate) fn model_manifest(&self, kind: &str, output: Output) -> Result<Manifest, Failure> {
        let bar = output.bar("hashing", "bytes", None);
        let sha256 = hub::model_sha256(self.path(), |bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        let mut manifest = Manifest::new(kind);
        manifest.argv = argv();
        manifest.runtime = json!({ "threads": self.threads });
        manifest.model = Some(ModelRecord {
            path: self.path().display().to_string(),
            family: self.spec.family.into(),
            sha256,
        });
        manifest.dtype = kind_name(self.kind).into();
        manifest.device = device_name(self.device);
        manifest.compute = Some(Compute::here(self.device.is_cuda()));
        Ok(manifest)
    }

    /// Most tokens in a forward pass: as asked, by default 2048 on the CPU and 16384 on CUDA.
    pub(crate) fn batch_tokens(&self, asked: Option<NonZeroUsize>) -> usize {
        asked.map_or(if self.device == Device::Cpu { 2048 } else { 16_384 }, NonZeroUsize::get)
    }

    /// The layers asked for, or all of 0..=L.
    pub(crate) fn layers(&self, asked: Option<&super::args::Layers>) -> Result<Vec<usize>, Failure> {
        let last = self.spec.n_layers;
        let Some(asked) = asked else { return Ok((0..=last).collect()) };
        match asked.0.iter().find(|l| **l > last) {
            None => Ok(asked.0.clone()),
            Some(layer) => Err(Failure::usage(anyhow::anyhow!(
                "--layers: no layer {layer}; this model's layers are 0 to {last}"
            ))),
        }
    }
}

/// What could not be had from the hub may have been meant as a folder.
fn no_folder_either(model: &OsStr, error: HubError) -> Failure {
    match error {
        HubError::NoFolder { .. } | HubError::BadId { .. } => error.into(),
        other if Path::new(model).exists() => other.into(),
        other => {
            let line = anyhow::anyhow!("{other}; there is no folder \"{}\" here either", model.display());
            if other.is_usage() { Failure::usage(line) } else { Failure::failed(line) }
        }
    }
}

/// `"<s>" (1), because …`, or why there is none.
pub(crate) fn bos_line(bos: &Bos) -> String {
    match (&bos.token, bos.id) {
        (Some(token), Some(id)) => format!("{token:?} ({id}); {}", bos.reason),
        (None, Some(id)) => format!("id {id}; {}", bos.reason),
        _ => format!("none; {}", bos.reason),
    }
}

/// `f32`, `bf16` …
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        Kind::Double => "f64",
        _ => "unknown",
    }
}

/// All of stdin as text.
pub(crate) fn read_stdin() -> anyhow::Result<String> {
    std::io::read_to_string(std::io::stdin()).context("stdin")
}

/// `cpu`, `cuda:0` …
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(i) => format!("cuda:{i}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
