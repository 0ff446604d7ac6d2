//! A finished run once more, from what its manifest says, and whether the same bytes come out.

use std::path::{Path, PathBuf};

use super::{AnyJob, JobError, Setting, Watch};
use crate::results::run::{Manifest, Outputs, Status};

/// Whether a run came out as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    /// The command.
    pub command: &'static str,
    /// Files that are the same, byte for byte.
    pub same: Vec<String>,
    /// Files that differ, or that one of the two does not have.
    pub different: Vec<String>,
}

/// Runs the job of `run` again, into `out` or else into a folder beside it which is removed afterwards, and compares
/// every file.
///
/// # Errors
/// A folder that holds no finished run, or one from before jobs were recorded; the errors of the job.
pub fn rerun(run: &Path, out: Option<&Path>, watch: &dyn Watch) -> Result<Rerun, JobError> {
    let before = finished(run)?;
    let mut job = AnyJob::of_run(run)?;
    let kept = out.map(Path::to_path_buf);
    if kept.as_deref().is_some_and(|out| out == run) {
        return Err(JobError::setting("out", "that is the run itself; give another folder, or none"));
    }
    let parent = run.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = match &kept {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix(".rerun-").tempdir_in(parent)?),
    };
    // The folder's name is the lens's: it stays.
    let name = run.canonicalize()?.file_name().map(PathBuf::from).unwrap_or_default();
    let folder = kept.or_else(|| scratch.as_ref().map(|dir| dir.path().join(name)));
    let Some(folder) = folder else { return Err(JobError::setting("out", "there is no folder to write")) };
    job.set_out(folder.clone());
    job.run(watch)?;
    let after = finished(&folder)?;
    Ok(compare(job.command(), &before, &after))
}

/// The files of a complete run.
fn finished(run: &Path) -> Result<Outputs, JobError> {
    let named = |problem: String| JobError::usage(format!("{}: {problem}", run.display()));
    let manifest =
        Manifest::read(run)?.ok_or_else(|| named("no run is here: there is no manifest.json".into()))?;
    if manifest.status != Status::Complete {
        return Err(named(format!("the run is not finished; repeat its command ({})", Setting("out"))));
    }
    manifest.outputs.ok_or_else(|| named("its manifest is from before there were checksums".into()))
}

fn compare(command: &'static str, before: &Outputs, after: &Outputs) -> Rerun {
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let list = if before.get(name) == after.get(name) { &mut same } else { &mut different };
        list.push(name.clone());
    }
    Rerun { command, same, different }
}
