//! Nothing damaged is used: the manifest of a complete run has the size and SHA-256 of every file, and who reads one
//! compares.
//!
//! A file that vouches for others stands for them: an export's manifest lists its shard markers, and each marker has
//! the checksums of its shard. A folder without a manifest, or with one from before there were checksums, is read as it
//! is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{MANIFEST, Manifest, RunError, Status};
use crate::hash::{sha256, sha256_file};

/// Every file of a run by its path in the folder, with `/` between folders.
pub type Outputs = BTreeMap<String, Output>;

/// Folders between a run and its deepest file, at most: `acts/hook=z/layer=3/shard=0.parquet`.
const DEPTH: usize = 4;

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

impl Output {
    /// Of what was read.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: sha256(content) }
    }

    /// Of a file, read in pieces.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Ok(Self { bytes: fs::metadata(path)?.len(), sha256: sha256_file(path, &|_| ())? })
    }

    /// Refuses a file of which something else was found.
    fn compare(&self, path: &Path, found: &Self) -> Result<(), RunError> {
        if self == found {
            return Ok(());
        }
        let words = |o: &Self| match (self.bytes == found.bytes, o.sha256.get(..12)) {
            (true, Some(start)) => format!("sha256 {start}…"),
            _ => format!("{} bytes", o.bytes),
        };
        Err(RunError::damaged(path, &words(found), &words(self)))
    }

    /// Compares a file with what was recorded of it; its size first, which costs nothing.
    fn check_file(&self, path: &Path) -> Result<(), RunError> {
        let length = match fs::metadata(path) {
            Ok(m) if m.is_file() => m.len(),
            Ok(_) => return Err(RunError::damaged(path, "no file", "a file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RunError::damaged(path, "nothing", &format!("{} bytes", self.bytes)));
            }
            Err(e) => return Err(RunError::io("read", path, e)),
        };
        let found = if length == self.bytes {
            Self::of_file(path).map_err(|e| RunError::io("read", path, e))?
        } else {
            Self { bytes: length, sha256: String::new() }
        };
        self.compare(path, &found)
    }
}

/// Size and checksum of every one of the files (by path relative to `dir`).
///
/// # Errors
/// [`RunError::Io`] naming a file.
pub(super) fn record(dir: &Path, files: &[PathBuf]) -> Result<Outputs, RunError> {
    let one = |file: &PathBuf| {
        let path = dir.join(file);
        Ok((key(file), Output::of_file(&path).map_err(|e| RunError::io("read", &path, e))?))
    };
    files.par_iter().map(one).collect()
}

/// The files that are not as they were recorded, each with what is wrong.
///
/// # Errors
/// [`RunError::Io`] when a file is there and cannot be read.
pub(super) fn damaged(dir: &Path, outputs: &Outputs) -> Result<Vec<(PathBuf, RunError)>, RunError> {
    let one = |(name, output): (&String, &Output)| match output.check_file(&dir.join(name)) {
        Ok(()) => None,
        Err(e @ RunError::Damaged { .. }) => Some(Ok((PathBuf::from(name), e))),
        Err(e) => Some(Err(e)),
    };
    outputs.par_iter().filter_map(one).collect()
}

/// Whether every path stays inside the folder.
pub(super) fn stay_inside(outputs: &Outputs) -> bool {
    let normal = |name: &String| Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    outputs.keys().all(|name| !name.is_empty() && normal(name))
}

fn key(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

impl Manifest {
    /// Refuses what was read of the run's own file `name` unless it is what the run wrote.
    ///
    /// # Errors
    /// [`RunError::Damaged`]; [`RunError::Unfinished`] where no run has declared the file complete.
    pub fn check_output(&self, dir: &Path, name: &str, content: &[u8]) -> Result<(), RunError> {
        let path = dir.join(name);
        let Some(outputs) = &self.outputs else { return Ok(()) };
        if self.status != Status::Complete {
            return Err(RunError::Unfinished { path: dir.into() });
        }
        match outputs.get(name) {
            Some(output) => output.compare(&path, &Output::of(content)),
            None => Err(RunError::damaged(&path, "a file", "none")),
        }
    }
}

/// Reads the file `name` of the run folder `dir`, checked against the folder's manifest if it has one.
///
/// # Errors
/// [`RunError::Io`], [`RunError::BadManifest`], and those of [`Manifest::check_output`].
pub fn read_output(dir: &Path, name: &str) -> Result<Vec<u8>, RunError> {
    let path = dir.join(name);
    let content = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
    if let Some(manifest) = Manifest::read(dir)? {
        manifest.check_output(dir, name, &content)?;
    }
    Ok(content)
}

/// Checks a file that lies anywhere: where it belongs to a run, against that run's manifest; a stranger passes.
///
/// # Errors
/// As [`read_output`].
pub fn check_file(path: &Path) -> Result<(), RunError> {
    let whole = fs::canonicalize(path).map_err(|e| RunError::io("read", path, e))?;
    for dir in whole.ancestors().skip(1).take(DEPTH) {
        let manifest = match Manifest::read(dir) {
            Ok(None) => continue,
            Ok(Some(manifest)) => manifest,
            Err(RunError::BadManifest { .. }) if !is_ours(dir) => continue,
            Err(e) => return Err(e),
        };
        let Some(outputs) = &manifest.outputs else { return Ok(()) };
        if manifest.status != Status::Complete {
            return Err(RunError::Unfinished { path: dir.into() });
        }
        let name = key(whole.strip_prefix(dir).unwrap_or(&whole));
        return outputs.get(&name).map_or(Ok(()), |output| output.check_file(path));
    }
    Ok(())
}

/// Whether a manifest that cannot be used is one of ours: other programs have files of that name too.
pub(super) fn is_ours(dir: &Path) -> bool {
    let text = fs::read(dir.join(MANIFEST)).unwrap_or_default();
    let has = |word: &[u8]| text.windows(word.len()).any(|some| some == word);
    has(b"\"manifest_sha256\"") || has(b"\"layerscope\"")
}

#[cfg(test)]
mod tests {
    use super::super::{Counts, RunDir};
    use super::*;

    fn run(dir: &Path) {
        let run = RunDir::start(dir, Manifest::new("lens eval"), false, &|p| p.starts_with("own")).unwrap();
        fs::create_dir_all(dir.join("own/deep")).unwrap();
        fs::write(dir.join("own/deep/a.bin"), "first").unwrap();
        fs::write(dir.join("own/b.bin"), "second").unwrap();
        fs::write(dir.join("notes.txt"), "theirs").unwrap();
        run.finish(Counts::default(), None).unwrap();
    }

    #[test]
    fn every_own_file_is_recorded_and_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        run(tmp.path());
        let outputs = Manifest::read(tmp.path()).unwrap().unwrap().outputs.unwrap();
        // printf first | sha256sum
        let sha256 = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e".to_owned();
        assert_eq!(outputs["own/deep/a.bin"], Output { bytes: 5, sha256 });
        assert_eq!(outputs.keys().collect::<Vec<_>>(), ["own/b.bin", "own/deep/a.bin"]);
    }

    #[test]
    fn damage_is_named_with_what_was_found_and_expected() {
        let tmp = tempfile::tempdir().unwrap();
        run(tmp.path());
        let (dir, name) = (tmp.path(), "own/deep/a.bin");
        let path = dir.join(name);
        assert_eq!(read_output(dir, name).unwrap(), b"first");
        check_file(&path).unwrap();
        for (content, found, expected) in [
            ("fisrt", "found sha256 66cf7f4ac8b4…", "sha256 a7937b64b8ca…"),
            ("first!", "found 6 bytes", "expected 5 bytes"),
        ] {
            fs::write(&path, content).unwrap();
            for error in [read_output(dir, name).unwrap_err(), check_file(&path).unwrap_err()] {
                let message = error.to_string();
                assert!(message.contains("own/deep/a.bin is damaged: "), "{message}");
                assert!(message.contains(found) && message.contains(expected), "{message}");
                assert!(message.ends_with("repeat the command that made it"), "{message}");
            }
        }
        fs::write(dir.join("own/c.bin"), "late").unwrap();
        let message = read_output(dir, "own/c.bin").unwrap_err().to_string();
        assert!(message.contains("found a file, expected none"), "{message}");
        check_file(&dir.join("own/c.bin")).unwrap(); // who names a file by its path may have put it there
        check_file(&dir.join("notes.txt")).unwrap();
    }

    #[test]
    fn unfinished_runs_are_not_read_and_older_ones_are() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r");
        run(&dir);
        let mut manifest = Manifest::read(&dir).unwrap().unwrap();
        fs::write(dir.join("own/b.bin"), "changed").unwrap();
        manifest.status = Status::Running;
        manifest.write(&dir).unwrap();
        let message = read_output(&dir, "own/b.bin").unwrap_err().to_string();
        assert!(message.contains("is unfinished"), "{message}");
        assert_eq!(check_file(&dir.join("own/b.bin")).unwrap_err().to_string(), message);
        let text = fs::read_to_string(dir.join(MANIFEST)).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json.as_object_mut().unwrap().remove("outputs");
        fs::write(dir.join(MANIFEST), json.to_string()).unwrap();
        assert_eq!(read_output(&dir, "own/b.bin").unwrap(), b"changed");
        // A stranger's manifest above a file says nothing about it; a broken one of ours does.
        fs::write(dir.join(MANIFEST), "{\"name\": \"a web page\"}").unwrap();
        check_file(&dir.join("own/b.bin")).unwrap();
        fs::write(dir.join(MANIFEST), &text[..text.len() - 9]).unwrap();
        assert!(check_file(&dir.join("own/b.bin")).unwrap_err().to_string().contains(MANIFEST));
    }
}
