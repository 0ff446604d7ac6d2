//! One writer at a time: an advisory lock on the folder itself, so that no lock file is left behind.
//!
//! A folder is known by what it is (device and inode), not by its name: between making and locking one, another process
//! may have removed it and made another of the same name. Only who holds the lock removes a folder, and only one it
//! made itself.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::RunError;

/// Times that a folder may vanish before its lock is had. Each needs another process that gives up at that very moment.
const TRIES: usize = 1000;

/// A folder that is held, until dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// The folder where this made it and it holds nothing yet: it goes away again.
    made: Option<PathBuf>,
    folder: File,
    locked: bool,
}

/// How an attempt ended.
enum Attempt {
    Held(Held),
    /// Another process removed the folder in between.
    Vanished,
}

impl Held {
    /// Makes the folder where there is none, and locks it.
    ///
    /// # Errors
    /// [`RunError::Locked`] when another process holds it; a failed file operation.
    pub(super) fn take(path: &Path) -> Result<Self, RunError> {
        for _ in 0..TRIES {
            if let Attempt::Held(held) = Self::attempt(path)? {
                return Ok(held);
            }
        }
        Err(RunError::Locked { path: path.into() })
    }

    fn attempt(path: &Path) -> Result<Attempt, RunError> {
        let created = create(path).map_err(|e| RunError::io("create", path, e))?;
        let folder = match File::open(path) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Vanished),
            Err(e) => return Err(RunError::io("open", path, e)),
        };
        let locked = match folder.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: path.into() }),
            // Some network file systems have no locks; a second writer is the user's mistake there.
            Err(TryLockError::Error(_)) => false,
        };
        // Without the lock nobody can say that the folder is still empty and ours.
        let held = Self { made: (created && locked).then(|| path.to_owned()), folder, locked };
        Ok(if held.is_at(path) { Attempt::Held(held) } else { Attempt::Vanished })
    }

    /// Whether the folder at `path` is the one that is held.
    fn is_at(&self, path: &Path) -> bool {
        let identity = |m: Metadata| (m.dev(), m.ino());
        let (there, held) = (fs::metadata(path).map(identity), self.folder.metadata().map(identity));
        matches!((there, held), (Ok(a), Ok(b)) if a == b)
    }

    /// Refuses to write where the folder is no longer the one that was locked.
    ///
    /// # Errors
    /// [`RunError::Replaced`].
    pub(super) fn check(&self, path: &Path) -> Result<(), RunError> {
        if self.is_at(path) { Ok(()) } else { Err(RunError::Replaced { path: path.into() }) }
    }

    /// The folder holds something now, and stays.
    pub(super) fn keep(&mut self) {
        self.made = None;
    }
}

impl Drop for Held {
    /// While the lock is held: it ends when the file is closed, after this.
    fn drop(&mut self) {
        if let Some(path) = self.made.take().filter(|path| self.locked && self.is_at(path)) {
            let _not_empty = fs::remove_dir(path);
        }
    }
}

/// Makes the folder and those above it; whether it was this call that made it.
fn create(path: &Path) -> io::Result<bool> {
    if path.as_os_str().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is empty"));
    }
    match fs::metadata(path) {
        Ok(m) if m.is_dir() => return Ok(false),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is a file, not a folder")),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it is a link to a folder that is not there",
            ));
        }
        Err(_) => {}
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A folder that appears between the two looks of `create` may vanish before it is opened, and be another's when it
    /// is locked.
    #[test]
    fn three_writers_and_never_two_at_once() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("out");
        let (rounds, writers) = (2000, 3);
        let (barrier, inside, held) = (Barrier::new(writers), AtomicUsize::new(0), AtomicUsize::new(0));
        let writer = |number: usize| {
            for round in 0..rounds {
                barrier.wait();
                match Held::take(&path) {
                    Ok(one) => {
                        assert_eq!(
                            inside.fetch_add(1, Ordering::SeqCst),
                            0,
                            "round {round}: two hold the folder"
                        );
                        held.fetch_add(1, Ordering::SeqCst);
                        if (round + number).is_multiple_of(2) {
                            std::thread::yield_now();
                        }
                        one.check(&path).unwrap();
                        fs::write(path.join("manifest.json"), "").unwrap();
                        fs::remove_file(path.join("manifest.json")).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                    Err(RunError::Locked { .. }) => {}
                    Err(e) => panic!("round {round}: {e}"),
                }
            }
        };
        std::thread::scope(|scope| (0..writers).for_each(|number| drop(scope.spawn(move || writer(number)))));
        assert!(held.load(Ordering::SeqCst) >= rounds, "somebody is first in every round");
    }

    #[test]
    fn a_loser_leaves_the_winners_folder_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("out");
        // What the loser of the race saw: no folder, then one that it did not make.
        fs::create_dir(&path).unwrap();
        let winner = Held::take(&path).unwrap();
        assert!(matches!(Held::take(&path), Err(RunError::Locked { .. })));
        assert!(path.exists());
        drop(winner);
        assert!(path.exists(), "a folder that was there stays");
    }

    #[test]
    fn a_folder_that_was_replaced_is_not_written_to() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("out");
        let first = Held::take(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        let second = Held::take(&path).unwrap();
        assert!(matches!(first.check(&path), Err(RunError::Replaced { .. })));
        second.check(&path).unwrap();
        drop(first);
        assert!(path.exists(), "the second's folder is not the first's to remove");
    }

    #[test]
    fn what_cannot_be_a_folder_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", tmp.path().join("link")).unwrap();
        std::os::unix::fs::symlink(tmp.path(), tmp.path().join("good")).unwrap();
        for (name, says) in [
            ("file", "it is a file, not a folder"),
            ("link", "a link to a folder that is not there"),
            ("file/x", "Not a directory"),
        ] {
            let message = Held::take(&tmp.path().join(name)).unwrap_err().to_string();
            assert!(message.starts_with("cannot create ") && message.contains(says), "{message}");
        }
        assert!(Held::take(Path::new("")).unwrap_err().to_string().contains("the name is empty"));
        Held::take(&tmp.path().join("good")).unwrap();
        Held::take(&tmp.path().join("é ü 漢/with blanks")).unwrap();
    }
}
