//! Taking hold of an output folder: new, resumed, finished already, started over, or refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::{remove, temp_target};
use super::lock::Held;
use super::outputs::{damaged, is_ours, record};
use super::sweep::{find, sweep, temp_of};
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

/// A folder that is locked for a job and may be written, in which nothing was changed yet: checks that take a model go between
/// this and [`Claim::begin`]. Dropped, it leaves the folder as it was.
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

    /// Sweeps leftovers of killed runs and damaged files, and writes the manifest with status `running` (unless the same job is
    /// complete). `owns` says which files this kind of run writes: with `force` those, and no others, are deleted if the folder
    /// holds another job; when the run is finished, those are listed in the manifest.
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
    /// A run that is complete stays so on a machine that would compute other bytes; one that is not is refused there, so that
    /// no run mixes the bytes of two machines.
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

/// What a folder holds, beside a job.
enum There {
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
    fn read(path: &Path, new: &Manifest, force: bool) -> Result<Self, RunError> {
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

/// Removes what killed runs left under temporary names.
fn sweep_temporary(path: &Path, owns: Owns) -> Result<(), RunError> {
    sweep(path, &|relative| temp_of(relative).is_some_and(|t| t == Path::new(MANIFEST) || owns(&t)))
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

fn other_compute(path: &Path, old: &Manifest, new: &Manifest) -> RunError {
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

    /// A run whose files are `acts/0` and `acts/1`.
    fn complete(dir: &Path, m: Manifest) -> Manifest {
        let run = start(dir, m, false).unwrap();
        fs::create_dir_all(dir.join("acts")).unwrap();
        (0..2).for_each(|i| fs::write(dir.join(format!("acts/{i}")), format!("file {i}")).unwrap());
        run.finish(Counts::default(), None).unwrap()
    }

    #[test]
    fn complete_is_what_is_all_there_and_whole() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        complete(dir, manifest(&["a"]));
        let found = || RunDir::claim(dir, manifest(&["a"]), false).unwrap().found();
        assert_eq!(found(), Found::Complete);
        let damage = [
            ("expected sha256", Some("fily 1")),
            ("found 7 bytes, expected 6 bytes", Some("file 1!")),
            ("found nothing", None),
        ];
        for (says, damage) in damage {
            match damage {
                Some(content) => fs::write(dir.join("acts/1"), content).unwrap(),
                None => fs::remove_file(dir.join("acts/1")).unwrap(),
            }
            let claim = RunDir::claim(dir, manifest(&["a"]), false).unwrap();
            let messages: Vec<String> = claim.damaged().map(RunError::finding).collect();
            assert_eq!((claim.found(), messages.len()), (Found::Unfinished, 1), "{messages:?}");
            assert!(
                messages[0].contains("acts/1 is damaged: ") && messages[0].contains(says),
                "{messages:?}"
            );
            drop(claim);
            // Begun, the damaged file is gone and the whole one is there, and no reader takes the run for complete.
            drop(start(dir, manifest(&["a"]), false).unwrap());
            assert!(!dir.join("acts/1").exists() && dir.join("acts/0").exists());
            assert_eq!(Manifest::read(dir).unwrap().unwrap().status, Status::Running);
            complete(dir, manifest(&["a"]));
            assert_eq!(found(), Found::Complete);
        }
    }

    #[test]
    fn a_damaged_manifest_is_repaired_only_by_its_own_job() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        let written = complete(dir, manifest(&["a"]));
        let text = fs::read_to_string(dir.join(MANIFEST)).unwrap();
        fs::write(dir.join(MANIFEST), text.replace("\"rows\": 0", "\"rows\": 4")).unwrap();
        let message = start(dir, manifest(&["b"]), false).unwrap_err().to_string();
        assert!(message.contains("damaged or changed") && message.ends_with("--force"), "{message}");
        assert_eq!(start(dir, manifest(&["a"]), false).unwrap().found(), Found::Unfinished);
        assert_eq!(complete(dir, manifest(&["a"])), written);
        for broken in [text.replace("export", "exqort"), text[1..].to_owned()] {
            fs::write(dir.join(MANIFEST), broken).unwrap();
            assert!(matches!(start(dir, manifest(&["a"]), false), Err(RunError::BadManifest { .. })));
            assert!(dir.join("acts/0").exists());
            drop(start(dir, manifest(&["a"]), true).unwrap());
            assert!(!dir.join("acts").exists());
            complete(dir, manifest(&["a"]));
        }
    }

    #[test]
    fn what_another_machine_began_does_not_go_on_here() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        let on = |instructions: &str| {
            let compute =
                json!({ "instructions": instructions, "processor": "p", "extensions": [], "settings": {} });
            Manifest { compute: serde_json::from_value(compute).unwrap(), ..manifest(&["a"]) }
        };
        assert_ne!(on("avx2").job_key(), on("avx512").job_key());
        drop(start(dir, on("avx512"), false).unwrap());
        let message = start(dir, on("avx2"), false).unwrap_err().to_string();
        assert!(message.contains("compute.instructions was \"avx512\", is now \"avx2\""), "{message}");
        let there = complete(dir, on("avx512"));
        // Complete, it is what it is; damaged, it cannot be made whole here.
        let claim = RunDir::claim(dir, on("avx2"), false).unwrap();
        assert_eq!((claim.found(), &claim.manifest().job), (Found::Complete, &there.job));
        drop(claim);
        fs::remove_file(dir.join("acts/0")).unwrap();
        assert!(matches!(start(dir, on("avx2"), false), Err(RunError::OtherCompute { .. })));
        assert_eq!(start(dir, on("avx2"), true).unwrap().found(), Found::Nothing);
    }

    #[test]
    fn a_run_inside_a_run_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        complete(&tmp.path().join("acts/other"), manifest(&["b"]));
        fs::rename(tmp.path().join("acts"), tmp.path().join("kept")).unwrap();
        let outer = tmp.path().join("outer");
        complete(&outer, manifest(&["a"]));
        fs::rename(tmp.path().join("kept/other"), outer.join("acts/other")).unwrap();
        let again = complete(&outer, manifest(&["a"]));
        assert_eq!(again.outputs.unwrap().keys().collect::<Vec<_>>(), ["acts/0", "acts/1"]);
        drop(start(&outer, manifest(&["c"]), true).unwrap());
        assert!(!outer.join("acts/0").exists() && outer.join("acts/other/acts/0").exists());
    }

    /// Three processes' worth of writers, many times: the folder is one run's, whole, or refused.
    #[test]
    fn racing_writers_leave_one_whole_run() {
        let tmp = tempfile::tempdir().unwrap();
        let barrier = std::sync::Barrier::new(3);
        let run = |writer: usize, round: usize| {
            let dir = tmp.path().join(round.to_string());
            barrier.wait();
            let Ok(claim) = RunDir::claim(&dir, manifest(&["a"]), false) else { return 0 };
            if writer == 0 && round.is_multiple_of(3) {
                return 0; // gives up, as a command does whose model cannot be read
            }
            if claim.found() == Found::Complete {
                return 0;
            }
            let run = claim.begin(&|p| p.starts_with("acts")).unwrap();
            fs::create_dir_all(dir.join("acts")).unwrap();
            fs::write(dir.join("acts/0"), "the same bytes").unwrap();
            run.finish(Counts::default(), None).unwrap();
            1
        };
        let rounds = |writer| (0..200).map(|round| run(writer, round)).sum::<usize>();
        let finished: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..3).map(|writer| scope.spawn(move || rounds(writer))).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        let mut whole = 0;
        for round in 0..200 {
            let dir = tmp.path().join(round.to_string());
            let claim = RunDir::claim(&dir, manifest(&["a"]), false).unwrap();
            assert_ne!(claim.found(), Found::Unfinished, "round {round}");
            whole += usize::from(claim.found() == Found::Complete);
        }
        assert_eq!(finished, whole, "every run that was finished is there, and was made once");
        assert!(whole > 100, "{whole}");
    }
}
