//! `--activations EXPORT`: states that were exported earlier, in place of text and forward passes.

use std::path::Path;

use super::Plan;
use crate::{
    hook::HookPoint,
    job::{AllWindows, JobError, Session, SetTo, Setting, Source, Watch},
    lens::fit::{Exported, windows},
    results::run::Manifest,
    sources::hub,
    sources::text::TextStats,
    states::store::ActivationStore,
};

/// Opens the export and checks that it holds what a fit needs: states of this model at every token of unpacked documents.
pub(super) fn open(dir: &Path, session: &Session) -> Result<ActivationStore, JobError> {
    let store = ActivationStore::open(dir).map_err(JobError::usage)?;
    let manifest = store.manifest();
    let made_by = manifest.model.as_ref().map_or("", |m| m.sha256.as_str());
    if made_by != hub::model_sha256(session.path(), |_| ())? {
        let model = Setting("model");
        return Err(JobError::check(format!("{}: made with another model than {model}", dir.display())));
    }
    let config = |name: &str| manifest.config.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    if config("positions") != "all" {
        return Err(JobError::usage(format!(
            "{}: exported with {}; a lens is fitted to all positions",
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

/// The windows the export was made from, and their length at most.
pub(super) fn text(store: &ActivationStore, limit: Option<u64>) -> Result<(AllWindows, usize), JobError> {
    let manifest = store.manifest();
    let seq_len = manifest.config.get("seq_len").and_then(serde_json::Value::as_u64);
    let seq_len = seq_len.ok_or_else(|| JobError::failed("the export's manifest has no seq_len"))? as usize;
    let windows = windows(&store.rows()?, seq_len, limit);
    let tokens: u64 = windows.iter().map(|w| w.ids.len() as u64).sum();
    let documents = windows.chunk_by(|a, b| a.segments[0].doc_id == b.segments[0].doc_id).count() as u64;
    let whole = manifest.counts;
    let stats = TextStats {
        documents,
        windows: windows.len() as u64,
        tokens,
        text_bytes: if tokens == whole.tokens { whole.text_bytes } else { 0 },
        reached_limit: tokens < whole.tokens,
        ..TextStats::default()
    };
    let lead = manifest.bos.as_ref().map_or_else(String::new, |bos| bos.reason.clone());
    Ok((AllWindows { windows, stats, lead }, seq_len))
}

/// Puts the export's text in place of the files that were not given.
pub(super) fn record(store: &ActivationStore, manifest: &mut Manifest) {
    let export = store.manifest();
    manifest.data.clone_from(&export.data);
    manifest.bos.clone_from(&export.bos);
    manifest.dtype.clone_from(&export.dtype);
    manifest.config["activations"] = export.job.clone().into();
}

/// Unpacks what the fit needs beside the lens.
pub(super) fn unpack(
    store: &ActivationStore,
    source: &Source<'_>,
    plan: &Plan,
    text: &AllWindows,
    out: &Path,
    watch: &dyn Watch,
) -> Result<Exported, JobError> {
    let mut points = plan.points.clone();
    let target = HookPoint::resid_pre(plan.target);
    if plan.target < plan.n_layers && !points.contains(&target) {
        points.push(target);
    }
    let rows = store.n_rows() as u64 * (points.len() as u64 + 1);
    let progress = watch.begin("unpacking", "rows", Some(rows));
    let (n_layers, device) = (source.session.spec.n_layers, source.session.device);
    let unpacked =
        Exported::unpack(store, &points, n_layers, &text.windows, (out, device), |n| progress.inc(n));
    Ok(unpacked?)
}
