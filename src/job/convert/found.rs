//! Views and directions in other layouts: small files, as JSON.

use std::{collections::BTreeSet, io::Write as _, path::Path};

use serde_json::{Value, json};

use super::{Convert, LENS, VECTORS, VIEWS};
use crate::{
    job::{JobError, Setting, Watch, intervene::directions},
    lens::artifact::{JacobianFile, LensFolder, LensKind, lens_sha256},
    lens::trajectory::{Trace, logitlenskit, read_traces},
    lenses::LayerIndex,
    results::run::{Manifest, RunError, write_atomic},
    states::convert::Converted,
};

/// Strength of Neuronpedia's own library.
const STRENGTH: f64 = 10.0;

/// The prompts and lenses of a view, a file each, as logitlenskit's widget shows them.
///
/// A view keeps the trajectories of tokens that are first somewhere. Of a list of likeliest tokens those stay that come
/// before the first token without one: `view --logitlenskit` follows them all.
pub(super) fn trajectories(job: &Convert, watch: &dyn Watch) -> Result<Converted, JobError> {
    let source = Manifest::read(&job.source)?;
    let traces = match &source {
        Some(manifest) if manifest.kind == "view" => read_traces(&job.source)?,
        Some(manifest) => {
            let line = format!("{}: it is a run of `{}`, not of `view`", job.source.display(), manifest.kind);
            return Err(JobError::usage(line));
        }
        None => return Err(JobError::usage(format!("{}: no run is here", job.source.display()))),
    };
    let shown = |trace: &Trace| trace.lenses.iter().filter(|lens| lens.horizon == 1).count();
    if traces.iter().map(shown).sum::<usize>() == 0 {
        let line = "none of its lenses is of the next token, which is what logitlenskit shows";
        return Err(JobError::usage(format!("{}: {line}", job.source.display())));
    }
    let manifest = job.manifest(source.as_ref(), &json!(source.as_ref().map(|source| &source.job)));
    job.fill(manifest, watch, |_| {
        let mut found = Converted::default();
        for (number, mut trace) in traces.into_iter().enumerate() {
            keep_followed(&mut trace);
            for lens in trace.lenses.iter().filter(|lens| lens.horizon == 1) {
                let name = format!("{number}.{}.json", plain(&lens.lens));
                write(&job.out.join(VIEWS).join(name), &logitlenskit(&trace, lens)?)?;
                found.records += 1;
            }
            found.tokens += trace.tokens.len() as u64;
        }
        Ok(found)
    })
}

/// Cuts every list of likeliest tokens before the first that was not followed.
fn keep_followed(trace: &mut Trace) {
    for lens in &mut trace.lenses {
        for cell in lens.cells.iter_mut().flatten() {
            let followed: BTreeSet<u32> = cell.tracked.iter().map(|(id, _)| *id).collect();
            let kept = cell.top.iter().take_while(|(id, _)| followed.contains(id)).count();
            cell.top.truncate(kept);
        }
    }
}

/// A Jacobian lens as the `.pt` of the wild, which counts what leaves a block and so has no place for layer 0.
pub(super) fn jacobians(job: &Convert, watch: &dyn Watch) -> Result<Converted, JobError> {
    let folder = LensFolder::read(&job.source).map_err(JobError::usage)?;
    let (path, kind) = (job.source.display(), folder.config.kind);
    if kind != LensKind::Jacobian {
        return Err(JobError::usage(format!("{path}: a {kind} lens; such a file holds Jacobians")));
    }
    let mut jacobians = folder.jacobians().map_err(JobError::usage)?;
    jacobians.retain(|layer, _| job.wants(layer.0));
    let left_out = u64::from(jacobians.contains_key(&LayerIndex(0)));
    if left_out > 0 && jacobians.len() > 1 {
        watch.note(
            "layer 0 is left out: such a file counts what leaves a block, and the embedding leaves none",
        );
    }
    let bytes = JacobianFile::encode(&job.source, &jacobians).map_err(JobError::usage)?;
    let of = Manifest::read(&job.source)?;
    let manifest = job.manifest(of.as_ref(), &json!({ "sha256": lens_sha256(&job.source)? }));
    let records = jacobians.len() as u64 - left_out;
    job.fill(manifest, watch, |_| {
        let file = job.out.join(LENS);
        write_atomic(&file, |f| f.write_all(&bytes).map_err(|e| RunError::io("write", &file, e)))?;
        Ok(Converted { records, tokens: 0, left_out })
    })
}

/// The vectors of probes and files, a file each: what Neuronpedia's `POST /api/vector/new` takes.
pub(super) fn vectors(job: &Convert, watch: &dyn Watch) -> Result<Converted, JobError> {
    let asked = job.source.to_string_lossy().into_owned();
    let layers = job.layers.as_ref().map(|layers| layers.0.as_slice());
    let (path, found) = directions(&asked, layers)?;
    let run = run_of(&path)?;
    let model = job.model_id.clone().or_else(|| {
        let path = run.as_ref()?.model.as_ref()?.path.clone();
        Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
    });
    let Some(model) = model else {
        let line = format!("{asked} names no model; see {}", Setting("model_id"));
        return Err(JobError::usage(line));
    };
    let records: Vec<&Value> = found.iter().map(|direction| &direction.record).collect();
    let mut manifest = job.manifest(run.as_ref(), &json!(records));
    manifest.config["model_id"] = json!(model);
    job.fill(manifest, watch, |_| {
        let mut converted = Converted::default();
        for direction in &found {
            for (layer, vector) in &direction.layers {
                let body = json!({
                    "modelId": model,
                    "layerNumber": layer,
                    "hookType": "hook_resid_pre",
                    "vector": vector,
                    "vectorDefaultSteerStrength": job.strength.unwrap_or(STRENGTH),
                    "vectorLabel": direction.name,
                });
                let name = format!("{}.{layer}.json", plain(&direction.name));
                write(&job.out.join(VECTORS).join(name), &body)?;
                converted.records += 1;
            }
        }
        Ok(converted)
    })
}

/// The run that a path is, or that a saved probe lies in.
fn run_of(path: &Path) -> Result<Option<Manifest>, RunError> {
    let folder = if path.is_dir() { Some(path) } else { path.parent().and_then(Path::parent) };
    folder.map_or(Ok(None), Manifest::read)
}

/// A name that is a file's everywhere.
fn plain(name: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name: String = name.chars().map(|c| if good(c) { c } else { '-' }).collect();
    name.trim_start_matches('.').to_owned()
}

fn write(path: &Path, value: &Value) -> Result<(), RunError> {
    let bytes = value.to_string();
    write_atomic(path, |file| file.write_all(bytes.as_bytes()).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}
