//! From the name of a model to a loaded one: everything cheap is checked before weights are read.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::{
    lenses::Lens,
    model::{Config, Model, Spec, StoredAs, Weights, settle, spec},
    results::run::{BosRecord, Compute, Manifest, ModelRecord},
    results::words::{counted, human},
    sources::device::set_threads,
    sources::hub::{self, FileStart, HubError, ModelDir},
    sources::text::{Bos, TextError, Tokenizer},
};
use serde_json::json;
use tch::{Device, Kind};

use super::{Job, JobError, Layers, ModelSettings, Underway, Watch, kept, new_manifest};

/// A model that can be loaded, and what was found out about it. Its weights are read when a job first needs them, and
/// stay.
///
/// ```
/// use layerscope::job::{ModelSettings, Session};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/gpt2-alice-8l");
/// let session = Session::open(&ModelSettings::new(folder), &())?;
/// assert_eq!((session.spec.n_layers, session.spec.family), (8, "gpt2"));
/// # Ok::<(), layerscope::job::JobError>(())
/// ```
pub struct Session {
    /// How the model was asked for.
    pub settings: ModelSettings,
    /// Its folder, and the hub id where it has one.
    pub dir: ModelDir,
    /// Its architecture.
    pub spec: Spec,
    /// Where it computes.
    pub device: Device,
    /// The same in words, and why.
    pub device_note: String,
    /// Number type that it computes in.
    pub kind: Kind,
    /// Number type that its weights are stored in.
    pub stored: Option<Kind>,
    /// Tensors and numbers by the type that they are stored in.
    pub stored_as: BTreeMap<String, StoredAs>,
    /// Whether weights are made into floats when they are read.
    pub quantised: bool,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Threads of libtorch, and of rayon.
    pub threads: usize,
    read: Rc<kept::Read>,
}

impl Session {
    /// Finds the model (fetching it if it is a hub id that is not cached) and reads everything but the weights.
    ///
    /// # Errors
    /// When there is no such model, it is of no family that is known, or the device is not there.
    pub fn open(settings: &ModelSettings, watch: &dyn Watch) -> Result<Self, JobError> {
        let threads = set_threads(settings.threads.map(NonZeroUsize::get));
        let choice = settings.device.choose().map_err(JobError::usage)?;
        let dir =
            hub::resolve(settings.model.as_os_str(), settings.revision.as_deref(), &mut Download::new(watch))
                .map_err(|e| no_folder_either(settings.model.as_os_str(), e))?;
        let spec = spec(&Config::read(&dir.path)?)?;
        let weights = Weights::open(&dir.path, Kind::Float, Device::Cpu)?;
        let claimed = spec.tied;
        let spec = settle(spec, &weights)?;
        if claimed && !spec.tied {
            watch.warn("the head is tied by config.json, but another one is stored; that is used, as by transformers");
        }
        let (stored, parameters) = weights.stored();
        let kind = settings.dtype.choose(choice.device, stored.unwrap_or(Kind::Float));
        if let Some(warning) = kind.warning {
            watch.warn(warning);
        }
        let read = kept::of(&dir.path, choice.device, kind.kind);
        Ok(Self {
            settings: settings.clone(),
            dir,
            spec,
            device: choice.device,
            device_note: choice.note,
            kind: kind.kind,
            stored,
            stored_as: weights.types(),
            quantised: weights.quantised(),
            parameters,
            threads,
            read,
        })
    }

    /// The model's folder.
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// What the model is called in messages: the hub id, or the folder's name.
    pub fn name(&self) -> String {
        let folder = || PathBuf::from(&self.dir.path).file_name().map(|n| n.to_string_lossy().into_owned());
        self.dir.id.clone().or_else(folder).unwrap_or_else(|| self.spec.family.to_owned())
    }

    /// The model's tokenizer, with the BOS policy decided.
    ///
    /// # Errors
    /// When the folder has none, or one of another model.
    pub fn tokenizer(&self, watch: &dyn Watch) -> Result<Tokenizer, TextError> {
        let encoder = self.spec.encoder.is_some();
        let tokenizer = Tokenizer::load_for(&self.dir.path, self.settings.bos, encoder)?;
        if let [first, rest @ ..] = tokenizer.check_vocab(self.spec.vocab)?.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            watch.warn(&format!(
                "the model's {} embedding rows have none for the added token `{}`{more}; a text that uses it is refused",
                self.spec.vocab,
                first.escape_debug()
            ));
        }
        for warning in tokenizer.warnings() {
            watch.warn(warning);
        }
        Ok(tokenizer)
    }

    /// Says what runs where, in a line.
    pub fn announce(&self, watch: &dyn Watch) {
        let (s, n) = (&self.spec, human(self.parameters, ""));
        watch.note(&format!(
            "{} ({}): {} × {}, {n} parameters; {} on {}",
            self.name(),
            s.family,
            counted(s.n_layers, "layer"),
            s.d_model,
            kind_name(self.kind),
            self.device_note
        ));
    }

    /// The model; its weights are read at the first call.
    ///
    /// # Errors
    /// When weights are missing, damaged, or not finite.
    pub fn load(&self, watch: &dyn Watch) -> Result<&Model, JobError> {
        if let Some(model) = self.read.model.get() {
            return Ok(model);
        }
        let progress = watch.begin("loading", "blocks", Some(self.spec.n_layers as u64));
        let model = Model::load(&self.dir.path, self.kind, self.device, |done, _| progress.set(done as u64))?;
        Ok(self.read.model.get_or_init(|| model))
    }

    /// SHA-256 of its weights.
    fn sha256(&self, watch: &dyn Watch) -> Result<&str, JobError> {
        if let Some(sha256) = self.read.sha256.get() {
            return Ok(sha256);
        }
        let progress = watch.begin("hashing", "bytes", None);
        let sha256 = hub::model_sha256(self.path(), |bytes| progress.inc(bytes))?;
        Ok(self.read.sha256.get_or_init(|| sha256))
    }

    /// The lens in a folder (of a future lens one per horizon), or `logit`, checked against this model and on its
    /// device.
    ///
    /// # Errors
    /// A folder that holds no lens; [`JobError::Check`] for one that was made for another shape or another unembedding.
    pub fn lens(&self, name: impl Into<PathBuf>, watch: &dyn Watch) -> Result<Vec<Box<dyn Lens>>, JobError> {
        let asked = super::lens::read(&[name.into()])?;
        super::lens::check_shapes(&asked, &self.spec)?;
        Ok(super::lens::open(&asked, self.load(watch)?, false, watch)?.all)
    }

    /// A manifest with everything filled in that the job, the model and its tokenizer determine.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn manifest<J: Job>(
        &self,
        job: &J,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = self.model_manifest(job, watch)?;
        let bos = tokenizer.bos();
        manifest.tokenizer_sha256 = Some(hub::tokenizer_sha256(self.path())?);
        manifest.bos = Some(BosRecord {
            policy: self.settings.bos.to_string(),
            id: bos.id,
            prefix: if bos.prefix.len() > 1 { bos.prefix.clone() } else { Vec::new() },
            token: bos.token.clone(),
            reason: bos.reason.clone(),
        });
        Ok(manifest)
    }

    /// The same of a job that reads no text.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn model_manifest<J: Job>(&self, job: &J, watch: &dyn Watch) -> Result<Manifest, JobError> {
        let sha256 = self.sha256(watch)?.to_owned();
        let mut manifest = new_manifest(job);
        manifest.runtime = json!({ "threads": self.threads });
        manifest.model = Some(ModelRecord {
            path: self.path().display().to_string(),
            family: self.spec.family.into(),
            sha256,
            stored: self
                .quantised
                .then(|| self.stored_as.iter().map(|(name, n)| (name.clone(), n.tensors)).collect()),
        });
        manifest.dtype = kind_name(self.kind).into();
        manifest.device = device_name(self.device);
        manifest.compute = Some(Compute::here(self.device.is_cuda()));
        Ok(manifest)
    }

    /// Tokens that can be said: the tokenizer's, not the padding rows that a checkpoint may have beyond them.
    pub fn vocab(&self, tokenizer: &Tokenizer) -> usize {
        (tokenizer.max_id() as usize + 1).min(self.spec.vocab)
    }

    /// Most tokens in a forward pass: as asked, by default 2048 on the CPU and 16384 on CUDA.
    pub fn batch_tokens(&self, asked: Option<NonZeroUsize>) -> usize {
        asked.map_or(if self.device == Device::Cpu { 2048 } else { 16_384 }, NonZeroUsize::get)
    }

    /// The layers asked for, or all of 0..=L.
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn layers(&self, asked: Option<&Layers>) -> Result<Vec<usize>, JobError> {
        let last = self.spec.n_layers;
        let Some(asked) = asked else { return Ok((0..=last).collect()) };
        match asked.0.iter().find(|l| **l > last) {
            None => Ok(asked.0.clone()),
            Some(layer) => Err(JobError::setting(
                "layers",
                format!("no layer {layer}; this model's layers are 0 to {last}"),
            )),
        }
    }
}

/// What could not be had from the hub may have been meant as a folder.
fn no_folder_either(model: &OsStr, error: HubError) -> JobError {
    match error {
        HubError::NoFolder { .. } | HubError::BadId { .. } => error.into(),
        other if Path::new(model).exists() => other.into(),
        other => {
            let line = format!("{other}; there is no folder \"{}\" here either", model.display());
            if other.is_usage() { JobError::usage(line) } else { JobError::failed(line) }
        }
    }
}

/// `"<s>" (1), because …`, or why there is none.
pub fn bos_line(bos: &Bos) -> String {
    match (&bos.token, bos.id) {
        (Some(token), Some(id)) => format!("{token:?} ({id}); {}", bos.reason),
        (None, Some(id)) => format!("id {id}; {}", bos.reason),
        _ => format!("none; {}", bos.reason),
    }
}

/// `f32`, `bf16` …
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        Kind::Double => "f64",
        _ => "unknown",
    }
}

/// `cpu`, `cuda:0` …
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(i) => format!("cuda:{i}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Files of a model that come from the hub, one after another.
struct Download<'w> {
    watch: &'w dyn Watch,
    file: Option<Underway<'w>>,
}

impl<'w> Download<'w> {
    fn new(watch: &'w dyn Watch) -> Self {
        Self { watch, file: None }
    }
}

impl hub::Progress for Download<'_> {
    fn start(&mut self, file: FileStart<'_>) {
        let stage = self.watch.begin("downloading", "bytes", Some(file.bytes));
        stage.say(format!("[{}/{}] {}", file.number, file.of, file.name));
        self.file = Some(stage);
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(stage) = &self.file {
            stage.inc(bytes);
        }
    }

    fn finish(&mut self) {
        self.file = None;
    }

    fn waiting(&mut self, id: &str) {
        self.watch.note(&format!("waiting for another process that downloads {id}"));
    }
}
