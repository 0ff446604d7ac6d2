//! Models that stay in memory between the jobs of one thread.
//!
//! Every job opens its model anew, and everything cheap is checked anew. A worker only spares the reading and hashing
//! of weights: where the same files are to compute in the same numbers at the same place, the next session finds them
//! loaded.

use std::{
    cell::{OnceCell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
    time::SystemTime,
};

use tch::{Device, Kind};

use crate::model::Model;

/// Name, size and time of a file.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// What loaded weights are the same for.
#[derive(PartialEq)]
struct Key {
    folder: PathBuf,
    files: Vec<Stamp>,
    device: Device,
    kind: Kind,
}

/// What was read of a model's files so far.
#[derive(Default)]
pub(super) struct Read {
    /// The weights.
    pub(super) model: OnceCell<Model>,
    /// Their SHA-256, as manifests have it.
    pub(super) sha256: OnceCell<String>,
}

/// The models of this thread, the one that was asked for last at the end.
#[derive(Default)]
struct Kept {
    most: usize,
    models: Vec<(Key, Rc<Read>)>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// From now on, this thread keeps the models of its latest sessions, as many as `most`.
pub(super) fn keep(most: usize) {
    KEPT.with_borrow_mut(|kept| {
        kept.most = most;
        let old = kept.models.len().saturating_sub(most);
        kept.models.drain(..old);
    });
}

/// What was or will be read of the model in a folder. One that has to go for it goes first, so that both are never in
/// memory.
pub(super) fn of(folder: &Path, device: Device, kind: Kind) -> Rc<Read> {
    KEPT.with_borrow_mut(|kept| {
        if kept.most == 0 {
            return Rc::default();
        }
        let key = Key { folder: folder.to_owned(), files: stamps(folder), device, kind };
        let found = kept.models.iter().position(|(other, _)| *other == key);
        let read = found.map_or_else(Rc::default, |place| kept.models.remove(place).1);
        let old = (kept.models.len() + 1).saturating_sub(kept.most);
        kept.models.drain(..old);
        kept.models.push((key, Rc::clone(&read)));
        read
    })
}

/// The files of a folder: weights or a configuration that were written anew are another model.
fn stamps(folder: &Path) -> Vec<Stamp> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<Stamp> = entries
        .filter_map(|entry| {
            // A hub cache holds links; what they lead to counts.
            let about = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file)?;
            Some((entry.path(), about.len(), about.modified().ok()))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &Path, kind: Kind) -> Rc<Read> {
        of(folder, Device::Cpu, kind)
    }

    #[test]
    fn the_same_files_are_the_same_model() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        let first = at(dir.path(), Kind::Float);
        assert!(!Rc::ptr_eq(&first, &at(dir.path(), Kind::Float)), "nothing is kept unless asked for");
        keep(1);
        let first = at(dir.path(), Kind::Float);
        assert!(Rc::ptr_eq(&first, &at(dir.path(), Kind::Float)));
        std::fs::write(dir.path().join("config.json"), "{ }").unwrap();
        assert!(!Rc::ptr_eq(&first, &at(dir.path(), Kind::Float)), "another file is another model");
        keep(0);
    }

    #[test]
    fn the_one_that_was_not_asked_for_longest_goes() {
        let dir = tempfile::tempdir().unwrap();
        keep(2);
        let [first, second] = [Kind::Float, Kind::BFloat16].map(|kind| at(dir.path(), kind));
        assert!(Rc::ptr_eq(&first, &at(dir.path(), Kind::Float)));
        at(dir.path(), Kind::Half);
        assert!(Rc::ptr_eq(&first, &at(dir.path(), Kind::Float)));
        assert!(!Rc::ptr_eq(&second, &at(dir.path(), Kind::BFloat16)));
        keep(0);
    }
}
