//! `--activations EXPORT`: states that were exported earlier, in place of text and forward passes.

use std::path::Path;

use crate::{
    hook::HookPoint,
    job::{
        AllWindows, JobError, ModelSettings, Session, SetTo, Setting, Source, Stopped, TextSettings,
        Underway, Watch,
    },
    lens::fit::{Exported, windows},
    model::{Model, ModelError},
    results::run::Manifest,
    sources::hub,
    sources::text::{BosPolicy, TextStats, Window, WindowOptions},
    states::{
        Masker, States,
        store::{ActivationStore, StoreError},
    },
};

/// Refuses a job without a text, or with two.
pub(super) fn check_source(
    text: &TextSettings,
    model: &ModelSettings,
    activations: Option<&Path>,
) -> Result<(), JobError> {
    let setting = Setting("activations");
    if activations.is_none() {
        let none = format!("there is no text; give files, or {setting}");
        return if text.data.is_empty() { Err(JobError::setting("data", none)) } else { Ok(()) };
    }
    let of_text = [
        ("data", !text.data.is_empty()),
        ("text_column", text.text_column.is_some()),
        ("seq_len", text.seq_len.is_some()),
        ("pack", text.pack),
        ("bos", model.bos != BosPolicy::Auto),
    ];
    match of_text.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(JobError::setting(
            name,
            format!("{setting} stand for the text, and were made with their own"),
        )),
    }
}

/// Opens the export and checks that it holds what a lens needs: states of this model at every token of unpacked
/// documents.
pub(super) fn open(dir: &Path, session: &Session) -> Result<ActivationStore, JobError> {
    let store = ActivationStore::open(dir).map_err(JobError::usage)?;
    let manifest = store.manifest();
    let made_by = manifest.model.as_ref().map_or("", |m| m.sha256.as_str());
    if made_by != hub::model_sha256(session.path(), |_| ())? {
        let model = Setting("model");
        return Err(JobError::check(format!("{}: made with another model than {model}", dir.display())));
    }
    if is_import(manifest) {
        return Ok(store);
    }
    let config = |name: &str| manifest.config.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    if config("positions") != "all" {
        return Err(JobError::usage(format!(
            "{}: exported with {}; a lens reads all positions",
            dir.display(),
            SetTo("positions", config("positions"))
        )));
    }
    if manifest.config.get("pack").and_then(serde_json::Value::as_bool) != Some(false) {
        return Err(JobError::usage(format!(
            "{}: exported with {}, which does not say where windows begin; export without it",
            dir.display(),
            Setting("pack")
        )));
    }
    Ok(store)
}

/// Whether others computed the states: every document whole.
fn is_import(manifest: &Manifest) -> bool {
    manifest.kind == "import"
}

/// Refuses an export without one of these points, or without the last layer, from which the model's own prediction
/// comes.
pub(super) fn check_points(
    store: &ActivationStore,
    points: &[HookPoint],
    n_layers: usize,
) -> Result<(), JobError> {
    for point in points.iter().chain(&[HookPoint::resid_pre(n_layers)]) {
        let (hook, layer) = (point.short_name(), point.layer(n_layers) as u32);
        store.check_column(hook, layer).map_err(JobError::usage)?;
    }
    Ok(())
}

/// The windows the export was made from, and how they were cut.
pub(super) fn text(
    store: &ActivationStore,
    source: &Source<'_>,
    limit: Option<u64>,
) -> Result<(AllWindows, WindowOptions), JobError> {
    let manifest = store.manifest();
    let ids = store.rows()?;
    let seq_len = match manifest.config.get("seq_len").and_then(serde_json::Value::as_u64) {
        Some(seq_len) => seq_len as usize,
        None if is_import(manifest) => ids.pos.iter().max().map_or(1, |last| *last as usize + 1),
        None => return Err(JobError::failed("the export's manifest has no seq_len")),
    };
    let mut windows = windows(&ids, seq_len, limit);
    let tokens: u64 = windows.iter().map(|w| w.ids.len() as u64).sum();
    let documents = windows.chunk_by(same_document).count() as u64;
    let whole = manifest.counts;
    let reached_limit = tokens < whole.tokens;
    let bytes = count_bytes(&mut windows, source, manifest)?;
    // What tokens are spelled as is their text, but for tokenizers that change it; then the sum is another.
    let known = reached_limit || is_import(manifest) || bytes == whole.text_bytes;
    if !known {
        windows.iter_mut().flat_map(|w| &mut w.segments).for_each(|segment| segment.doc_bytes = 0);
    }
    let stats = TextStats {
        documents,
        windows: windows.len() as u64,
        tokens,
        text_bytes: if known { bytes } else { whole.text_bytes },
        reached_limit,
        ..TextStats::default()
    };
    let lead = manifest.bos.as_ref().map_or_else(String::new, |bos| bos.reason.clone());
    let options = WindowOptions { seq_len, max_tokens: limit, pack: false };
    Ok((AllWindows { windows, stats, lead }, options))
}

fn same_document(a: &Window, b: &Window) -> bool {
    a.segments[0].doc_id == b.segments[0].doc_id
}

/// Writes into the windows how many bytes of text their documents have, and gives the sum.
fn count_bytes(windows: &mut [Window], source: &Source<'_>, manifest: &Manifest) -> Result<u64, JobError> {
    let lead: Vec<u32> = manifest.bos.as_ref().map_or_else(Vec::new, |bos| {
        if bos.prefix.is_empty() { bos.id.into_iter().collect() } else { bos.prefix.clone() }
    });
    let mut all = 0;
    for document in windows.chunk_by_mut(same_document) {
        let ids: Vec<u32> = document.iter().flat_map(|w| w.ids.iter().copied()).collect();
        let added = if ids.starts_with(&lead) { lead.len() } else { 0 };
        let bytes = source.tokenizer.decode(&ids[added..])?.len() as u64;
        all += bytes;
        for segment in document.iter_mut().flat_map(|w| &mut w.segments) {
            (segment.doc_added, segment.doc_bytes) = (added as u32, bytes);
        }
    }
    Ok(all)
}

/// Puts the export's text in place of the files that were not given.
pub(super) fn record(store: &ActivationStore, manifest: &mut Manifest) {
    let export = store.manifest();
    manifest.data.clone_from(&export.data);
    manifest.bos.clone_from(&export.bos);
    manifest.dtype.clone_from(&export.dtype);
    manifest.config["activations"] = export.job.clone().into();
}

/// Unpacks points and the last layer, for reading in any order.
pub(super) fn unpack(
    store: &ActivationStore,
    session: &Session,
    points: &[HookPoint],
    text: &AllWindows,
    out: &Path,
    watch: &dyn Watch,
) -> Result<Exported, JobError> {
    let rows = store.n_rows() as u64 * (points.len() as u64 + 1);
    let stage = watch.begin("unpacking", "rows", Some(rows));
    let (n_layers, device) = (session.spec.n_layers, session.device);
    Ok(Exported::unpack(store, points, n_layers, &text.windows, (out, device), |n| stage.inc(n))?)
}

/// Where the states of windows come from.
pub(super) enum Stream<'a> {
    /// The model runs.
    Model {
        /// The model.
        model: &'a Model,
        /// What hides an encoder's tokens.
        masker: Option<&'a Masker>,
    },
    /// It ran earlier.
    Exported(Exported),
}

impl Stream<'_> {
    /// What hides an encoder's tokens.
    pub(super) fn masker(&self) -> Option<&Masker> {
        match self {
            Self::Model { masker, .. } => *masker,
            Self::Exported(_) => None,
        }
    }

    /// Hands `f` the states of `windows` at `points` and at the last layer, as [`States::each`].
    pub(super) fn each<E: From<ModelError> + From<StoreError> + From<Stopped>>(
        &self,
        points: &[HookPoint],
        windows: (&[&Window], usize),
        stage: &Underway<'_>,
        f: impl FnMut(&States, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Model { model, masker } => States::each_behind(model, points, windows, *masker, stage, f),
            Self::Exported(exported) => {
                States::each_from(windows, stage, |some| exported.states(points, some), f)
            }
        }
    }
}
