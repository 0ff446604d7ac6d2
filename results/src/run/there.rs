//! What lies in a folder that a job wants: nothing, the same job, another one, or somebody else's files.

use std::{fs, path::Path};

use super::{MANIFEST, Manifest, RunError, atomic::temp_target, outputs::is_ours};

/// What a folder holds, beside a job.
pub(super) enum There {
    Nothing,
    /// The same job; with what is wrong with its manifest.
    SameJob {
        old: Box<Manifest>,
        changed: Option<RunError>,
    },
    /// To be cleared.
    OtherJob,
}

impl There {
    pub(super) fn read(path: &Path, new: &Manifest, force: bool) -> Result<Self, RunError> {
        let (old, changed) = match Manifest::read(path) {
            Ok(None) => return refuse_foreign(path).map(|()| Self::Nothing),
            Ok(Some(old)) => (old, None),
            Err(e @ RunError::BadManifest { .. }) => {
                if force && is_ours(path) {
                    return Ok(Self::OtherJob);
                }
                // Where all that makes the job is as it is asked for now, the rest is written anew.
                let text = fs::read(path.join(MANIFEST)).unwrap_or_default();
                match Manifest::parse(&text) {
                    Ok(old) if settings(&old) == settings(&as_read(path, new)?) => (old, Some(e)),
                    _ => return Err(e),
                }
            }
            Err(e) => return Err(e),
        };
        if force {
            return Ok(Self::OtherJob);
        }
        let new = as_read(path, new)?;
        if settings(&old) != settings(&new) {
            return Err(different(path, &settings(&old), &settings(&new)));
        }
        Ok(Self::SameJob { old: Box::new(old), changed })
    }
}

/// As it will stand in the file.
fn as_read(path: &Path, manifest: &Manifest) -> Result<Manifest, RunError> {
    manifest.as_read().map_err(|e| RunError::BadManifest { path: path.join(MANIFEST), reason: e.to_string() })
}

/// What the user asked for, without what it is computed with.
fn settings(manifest: &Manifest) -> Vec<(String, serde_json::Value)> {
    let mut all = manifest.job_settings();
    all.retain(|(name, _)| !is_compute(name));
    all
}

fn is_compute(name: &str) -> bool {
    name == "compute" || name.starts_with("compute.")
}

fn refuse_foreign(path: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(path).map_err(|e| RunError::io("read", path, e))? {
        let name =
            entry.map_err(|e| RunError::io("read", path, e))?.file_name().to_string_lossy().into_owned();
        if temp_target(&name) != Some(MANIFEST) {
            return Err(RunError::Foreign { path: path.into(), found: name });
        }
    }
    Ok(())
}

/// Settings by dotted name.
type Settings = [(String, serde_json::Value)];

fn value(side: &Settings, name: &str) -> String {
    side.iter().find(|(n, _)| n == name).map_or("not set".to_owned(), |(_, v)| v.to_string())
}

/// The names of settings that differ, in order.
fn differing<'a>(old: &'a Settings, new: &'a Settings) -> Vec<&'a String> {
    let mut names: Vec<&String> = old.iter().chain(new).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names.retain(|name| value(old, name) != value(new, name));
    names
}

/// The folder's files were computed with something else than this run would have.
pub(super) fn other_compute(path: &Path, old: &Manifest, new: &Manifest) -> RunError {
    let (mut old, mut new) = (old.job_settings(), new.job_settings());
    old.retain(|(name, _)| is_compute(name));
    new.retain(|(name, _)| is_compute(name));
    let setting = differing(&old, &new).first().map_or_else(String::new, ToString::to_string);
    let (old, new) = (value(&old, &setting), value(&new, &setting));
    RunError::OtherCompute { path: path.into(), setting, old, new }
}

fn different(path: &Path, old: &Settings, new: &Settings) -> RunError {
    let mut names = differing(old, new);
    // The user's own settings say more than what follows from them.
    names.sort_by_key(|name| !name.starts_with("config"));
    let setting = names.first().map_or_else(String::new, ToString::to_string);
    let more =
        if names.len() > 1 { format!(" (and {} more settings)", names.len() - 1) } else { String::new() };
    RunError::DifferentJob {
        path: path.into(),
        old: value(old, &setting),
        new: value(new, &setting),
        setting,
        more,
    }
}
