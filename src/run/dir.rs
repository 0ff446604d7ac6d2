//! Taking hold of an output folder: new, resumed, finished already, started over, or refused.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::atomic::temp_target;
use super::sweep::{sweep, temp_of};
use super::{Counts, MANIFEST, Manifest, RunError, Status};

/// What the folder held when the run took hold of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing (or it was cleared by force).
    Nothing,
    /// The same job, unfinished.
    Unfinished,
    /// The same job, complete.
    Complete,
}

/// An output folder held by this process until dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    manifest: Manifest,
    found: Found,
    _lock: Option<File>,
}

/// A folder that is locked for a job and may be written, in which nothing was changed yet: checks that take a model go between
/// this and [`Claim::begin`]. Dropped, it leaves the folder as it was.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    manifest: Manifest,
    found: Found,
    other_job: bool,
    created: Created,
    lock: Option<File>,
}

/// A new folder, which goes away again unless something comes into it.
#[derive(Debug)]
struct Created(Option<PathBuf>);

impl Created {
    fn create(path: &Path) -> Result<Self, RunError> {
        let created = Self((!path.exists()).then(|| path.to_owned()));
        fs::create_dir_all(path).map_err(|e| RunError::io("create", path, e))?;
        Ok(created)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _not_empty = fs::remove_dir(path);
        }
    }
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

    /// Sweeps leftovers of killed runs, and writes the manifest with status `running` (unless the same job is complete). `owns`
    /// says which files, by path relative to the folder, this kind of run writes: with `force` those, and no others, are deleted
    /// if the folder holds another job.
    ///
    /// # Errors
    /// A failed file operation.
    pub fn begin(self, owns: &dyn Fn(&Path) -> bool) -> Result<RunDir, RunError> {
        let Self { path, manifest, found, other_job, created: _created, lock } = self;
        if other_job {
            // The manifest goes last: a kill in between leaves a folder that is still known as ours.
            sweep(&path, &|relative| relative != Path::new(MANIFEST) && owns(relative))?;
        }
        let target_is_ours =
            |relative: &Path| temp_of(relative).is_some_and(|t| t == Path::new(MANIFEST) || owns(&t));
        sweep(&path, &target_is_ours)?;
        if found != Found::Complete {
            manifest.write(&path)?;
        }
        Ok(RunDir { path, manifest, found, _lock: lock })
    }
}

impl RunDir {
    /// [`RunDir::claim`], then [`Claim::begin`].
    ///
    /// # Errors
    /// Those of both.
    pub fn start(
        path: &Path,
        manifest: Manifest,
        force: bool,
        owns: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, RunError> {
        Self::claim(path, manifest, force)?.begin(owns)
    }

    /// Takes hold of `path` for the job that `manifest` describes. With `force` it may hold another job.
    ///
    /// # Errors
    /// [`RunError::Foreign`], [`RunError::DifferentJob`], [`RunError::Locked`], [`RunError::BadManifest`], or a failed file operation.
    pub fn claim(path: &Path, mut manifest: Manifest, force: bool) -> Result<Claim, RunError> {
        manifest.status = Status::Running;
        manifest.job = manifest.job_key();
        let created = Created::create(path)?;
        let lock = lock(path)?;
        let old = Manifest::read(path)?;
        if old.is_none() {
            refuse_foreign(path)?;
        }
        let found = match &old {
            Some(old) if old.job_settings() == manifest.job_settings() && !force => {
                if old.status == Status::Complete { Found::Complete } else { Found::Unfinished }
            }
            Some(old) if !force => return Err(different(path, old, &manifest)),
            _ => Found::Nothing,
        };
        let other_job = old.is_some() && found == Found::Nothing;
        Ok(Claim { path: path.into(), manifest, found, other_job, created, lock })
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

    /// Sets a complete run back to `running`, because files turned out to be missing.
    ///
    /// # Errors
    /// [`RunError`] naming the manifest.
    pub fn reopen(&mut self) -> Result<(), RunError> {
        self.found = Found::Unfinished;
        self.manifest.write(&self.path)
    }

    /// Writes the manifest with status `complete`. Call it when every file is in place.
    ///
    /// # Errors
    /// [`RunError`] naming the manifest.
    pub fn finish(mut self, counts: Counts, parity: Option<serde_json::Value>) -> Result<Manifest, RunError> {
        self.manifest.status = Status::Complete;
        self.manifest.counts = counts;
        self.manifest.parity = parity;
        self.manifest.write(&self.path)?;
        Ok(self.manifest)
    }
}

/// An advisory lock on the folder itself, so that no lock file is left behind.
fn lock(path: &Path) -> Result<Option<File>, RunError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(|e| RunError::io("open", path, e))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(RunError::Locked { path: path.into() }),
        // Some network file systems have no locks; a second writer is the user's mistake there.
        Err(TryLockError::Error(_)) => Ok(None),
    }
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

fn different(path: &Path, old: &Manifest, new: &Manifest) -> RunError {
    let (old, new) = (old.job_settings(), new.job_settings());
    let value = |side: &[(String, serde_json::Value)], name: &str| {
        side.iter().find(|(n, _)| n == name).map_or("not set".to_owned(), |(_, v)| v.to_string())
    };
    let mut names: Vec<&String> = old.iter().chain(&new).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names.retain(|name| value(&old, name) != value(&new, name));
    // The user's own settings say more than what follows from them.
    names.sort_by_key(|name| !name.starts_with("config"));
    let setting = names.first().map_or_else(String::new, ToString::to_string);
    let more =
        if names.len() > 1 { format!(" (and {} more settings)", names.len() - 1) } else { String::new() };
    RunError::DifferentJob {
        path: path.into(),
        old: value(&old, &setting),
        new: value(&new, &setting),
        setting,
        more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(hooks: &[&str]) -> Manifest {
        let mut m = Manifest::new("export");
        m.config = json!({ "hooks": hooks, "positions": "all" });
        m.runtime = json!({ "threads": 2 });
        m
    }

    fn start(dir: &Path, m: Manifest, force: bool) -> Result<RunDir, RunError> {
        RunDir::start(dir, m, force, &|p| p.starts_with("acts"))
    }

    #[test]
    fn same_job_resumes_and_completes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("out");
        drop(start(&dir, manifest(&["a"]), false).unwrap());
        let mut other_threads = manifest(&["a"]);
        other_threads.runtime = json!({ "threads": 8 });
        fs::create_dir_all(dir.join("acts")).unwrap();
        fs::write(dir.join("acts/.shard=0.npy.tmp-77"), "torn").unwrap();
        let run = start(&dir, other_threads, false).unwrap();
        assert_eq!(run.found(), Found::Unfinished);
        assert!(!dir.join("acts").exists());
        assert!(matches!(start(&dir, manifest(&["a"]), false), Err(RunError::Locked { .. })));
        run.finish(Counts { rows: 3, ..Counts::default() }, None).unwrap();
        assert_eq!(start(&dir, manifest(&["a"]), false).unwrap().found(), Found::Complete);
    }

    #[test]
    fn a_claim_changes_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("out");
        let claim = RunDir::claim(&dir, manifest(&["a"]), false).unwrap();
        assert!(matches!(start(&dir, manifest(&["a"]), false), Err(RunError::Locked { .. })));
        drop(claim);
        assert!(!dir.exists());
        fs::create_dir(&dir).unwrap();
        drop(RunDir::claim(&dir, manifest(&["a"]), false).unwrap());
        assert!(dir.exists(), "a folder that was there stays");
        drop(start(&dir, manifest(&["a"]), false).unwrap());
        fs::create_dir(dir.join("acts")).unwrap();
        fs::write(dir.join("acts/s"), "ours").unwrap();
        let before = fs::read(dir.join(MANIFEST)).unwrap();
        let claim = RunDir::claim(&dir, manifest(&["b"]), true).unwrap();
        assert_eq!(claim.found(), Found::Nothing);
        drop(claim);
        assert!(dir.join("acts/s").exists() && fs::read(dir.join(MANIFEST)).unwrap() == before);
        drop(RunDir::claim(&dir, manifest(&["b"]), true).unwrap().begin(&|p| p.starts_with("acts")).unwrap());
        assert!(!dir.join("acts").exists() && fs::read(dir.join(MANIFEST)).unwrap() != before);
    }

    #[test]
    fn different_job_names_the_setting_and_force_keeps_foreign_files() {
        let tmp = tempfile::tempdir().unwrap();
        drop(start(tmp.path(), manifest(&["a"]), false).unwrap());
        let message = start(tmp.path(), manifest(&["b"]), false).unwrap_err().to_string();
        assert!(message.contains("config.hooks[0] was \"a\", is now \"b\""), "{message}");
        assert!(message.contains("--force"), "{message}");
        fs::create_dir_all(tmp.path().join("acts/x")).unwrap();
        fs::write(tmp.path().join("acts/x/s"), "ours").unwrap();
        fs::write(tmp.path().join("notes.txt"), "theirs").unwrap();
        let run = start(tmp.path(), manifest(&["b"]), true).unwrap();
        assert_eq!(run.found(), Found::Nothing);
        assert!(!tmp.path().join("acts").exists());
        assert!(tmp.path().join("notes.txt").exists());
    }

    #[test]
    fn foreign_folders_and_damaged_manifests_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("thesis.tex"), "x").unwrap();
        for force in [false, true] {
            let message = start(tmp.path(), manifest(&[]), force).unwrap_err().to_string();
            assert!(message.contains("found thesis.tex"), "{message}");
        }
        for (text, says) in [("{", "not JSON"), ("{}", "not a manifest"), ("{\"format_version\":9}", "newer")]
        {
            fs::write(tmp.path().join(MANIFEST), text).unwrap();
            let message = start(tmp.path(), manifest(&[]), true).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
