//! Taking hold of an output folder: new, resumed, finished already, started over, or refused.

use std::path::{Path, PathBuf};

use super::atomic::remove;
use super::lock::Held;
use super::outputs::{damaged, record};
use super::sweep::{find, sweep, temp_of};
use super::there::{There, other_compute};
use super::{Counts, MANIFEST, Manifest, RunError, Status};

/// What the folder held when the run took hold of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing (or it was cleared by force).
    Nothing,
    /// The same job, unfinished, or with files that are missing or damaged.
    Unfinished,
    /// The same job, complete, every file there and whole.
    Complete,
}

/// Which files a kind of run writes, by path relative to its folder.
pub type Owns = &'static (dyn Fn(&Path) -> bool + Sync);

/// An output folder held by this process until dropped.
pub struct RunDir {
    path: PathBuf,
    manifest: Manifest,
    found: Found,
    owns: Owns,
    /// What of it the manifest lists; the rest is vouched for by files that are listed.
    lists: Owns,
    held: Held,
}

/// A folder that is locked for a job and may be written, in which nothing was changed yet: checks that take a model go
/// between this and [`Claim::begin`]. Dropped, it leaves the folder as it was.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    manifest: Manifest,
    found: Found,
    other_job: bool,
    damaged: Vec<(PathBuf, RunError)>,
    other_compute: Option<RunError>,
    held: Held,
}

impl Claim {
    /// What the folder holds.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The manifest that would be written.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is wrong with the files of a complete run, which will be made again.
    pub fn damaged(&self) -> impl Iterator<Item = &RunError> {
        self.damaged.iter().map(|(_, error)| error)
    }

    /// A complete run turned out not to be whole: what a reader of its files knows better than the manifest.
    ///
    /// # Errors
    /// [`RunError::OtherCompute`] when what is missing cannot be made here.
    pub fn not_whole(&mut self) -> Result<(), RunError> {
        self.found = Found::Unfinished;
        self.other_compute.take().map_or(Ok(()), Err)
    }

    /// Sweeps leftovers of killed runs and damaged files, and writes the manifest with status `running` (unless the
    /// same job is complete). `owns` says which files this kind of run writes: with `force` those, and no others, are
    /// deleted if the folder holds another job; when the run is finished, those are listed in the manifest.
    ///
    /// # Errors
    /// [`RunError::Replaced`]; a failed file operation.
    pub fn begin(self, owns: Owns) -> Result<RunDir, RunError> {
        let Self { path, manifest, found, other_job, damaged, other_compute: _, mut held } = self;
        held.check(&path)?;
        if other_job {
            // The manifest goes last: a kill in between leaves a folder that is still known as ours.
            sweep(&path, &|relative| relative != Path::new(MANIFEST) && owns(relative))?;
        }
        sweep_temporary(&path, owns)?;
        if found != Found::Complete {
            manifest.write(&path)?;
        }
        for (relative, _) in damaged.iter().filter(|(relative, _)| owns(relative)) {
            let file = path.join(relative);
            remove(&file).map_err(|e| RunError::io("remove", &file, e))?;
        }
        held.keep();
        Ok(RunDir { path, manifest, found, owns, lists: owns, held })
    }
}

impl RunDir {
    /// [`RunDir::claim`], then [`Claim::begin`].
    ///
    /// # Errors
    /// Those of both.
    pub fn start(path: &Path, manifest: Manifest, force: bool, owns: Owns) -> Result<Self, RunError> {
        Self::claim(path, manifest, force)?.begin(owns)
    }

    /// Takes hold of `path` for the job that `manifest` describes. With `force` it may hold another job.
    ///
    /// A run that is complete stays so on a machine that would compute other bytes; one that is not is refused there,
    /// so that no run mixes the bytes of two machines.
    ///
    /// # Errors
    /// [`RunError::Foreign`], [`RunError::DifferentJob`], [`RunError::OtherCompute`], [`RunError::Locked`],
    /// [`RunError::BadManifest`], or a failed file operation.
    pub fn claim(path: &Path, mut manifest: Manifest, force: bool) -> Result<Claim, RunError> {
        manifest.status = Status::Running;
        manifest.job = manifest.job_key();
        let held = Held::take(path)?;
        let there = There::read(path, &manifest, force)?;
        let mut claim = Claim {
            path: path.into(),
            manifest,
            found: Found::Nothing,
            other_job: !matches!(there, There::Nothing),
            damaged: Vec::new(),
            other_compute: None,
            held,
        };
        if let There::SameJob { old, changed } = there {
            claim.resume(*old, changed)?;
        }
        Ok(claim)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder held at the start.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The manifest as it stands.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Has the manifest list fewer files than the run owns: those that vouch for the others.
    pub fn list_only(&mut self, lists: Owns) {
        self.lists = lists;
    }

    /// Writes the manifest with status `complete` and the checksum of every file. Call it when every file is in place.
    ///
    /// # Errors
    /// [`RunError`] naming the manifest, or a file that cannot be read.
    pub fn finish(mut self, counts: Counts, parity: Option<serde_json::Value>) -> Result<Manifest, RunError> {
        self.held.check(&self.path)?;
        sweep_temporary(&self.path, self.owns)?;
        let lists = self.lists;
        let files = find(&self.path, &|relative| relative != Path::new(MANIFEST) && lists(relative))?;
        self.manifest.outputs = Some(record(&self.path, &files)?);
        self.manifest.status = Status::Complete;
        self.manifest.counts = counts;
        self.manifest.parity = parity;
        self.manifest.write(&self.path)?;
        Ok(self.manifest)
    }
}

impl std::fmt::Debug for RunDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunDir").field("path", &self.path).field("found", &self.found).finish_non_exhaustive()
    }
}

impl Claim {
    /// The same job is there: is it complete and whole, and could it go on here?
    fn resume(&mut self, old: Manifest, mut changed: Option<RunError>) -> Result<(), RunError> {
        self.other_job = false;
        let complete = old.status == Status::Complete && changed.is_none();
        if complete {
            let outputs = old.outputs.as_ref();
            self.damaged = outputs.map_or(Ok(Vec::new()), |outputs| damaged(&self.path, outputs))?;
        }
        if old.compute.is_some() && old.compute != self.manifest.compute {
            let refused = other_compute(&self.path, &old, &self.manifest);
            self.other_compute = Some(changed.take().unwrap_or(refused));
        }
        let whole = complete && self.damaged.is_empty();
        if !whole && let Some(refused) = self.other_compute.take() {
            return Err(refused);
        }
        self.found = if whole { Found::Complete } else { Found::Unfinished };
        if whole || (old.compute.is_none() && changed.is_none()) {
            // What is there was computed there; from before that was recorded, it is taken to be from here.
            (self.manifest.compute, self.manifest.job) = (old.compute, old.job);
        }
        self.damaged.extend(changed.map(|e| (PathBuf::from(MANIFEST), e)));
        Ok(())
    }
}

/// Removes what killed runs left under temporary names.
fn sweep_temporary(path: &Path, owns: Owns) -> Result<(), RunError> {
    sweep(path, &|relative| temp_of(relative).is_some_and(|t| t == Path::new(MANIFEST) || owns(&t)))
}

#[cfg(test)]
mod tests;
