//! Shard markers: a shard counts once `shards/K.done` lies there and every file it names is there. Who reads a file
//! compares its checksum then; who writes the export compares all of them before it goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::schema::tokens_path;
use super::{Layout, StoreError};
use crate::results::run::{RunError, hash_file, write_atomic};

/// One file of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path inside the export.
    pub path: PathBuf,
    /// Length.
    pub bytes: u64,
    /// XXH64 (seed 0) of the content, 16 hex digits.
    pub xxh64: String,
}

/// The content of `shards/K.done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMarker {
    /// K.
    pub shard: u64,
    /// Key of the job that wrote it.
    pub job: String,
    /// `row_id` of its first row.
    pub first_row_id: u64,
    /// Its rows.
    pub rows: u64,
    /// Token table first, then the columns in the layout's order.
    pub files: Vec<FileRecord>,
}

impl ShardMarker {
    /// Path inside the export.
    pub(crate) fn path(shard: u64) -> PathBuf {
        PathBuf::from(format!("shards/{shard}.done"))
    }

    /// Whether a path inside the export is a marker's.
    pub(super) fn is_at(relative: &Path) -> bool {
        relative.starts_with("shards") && owned_shard(relative).is_some()
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(Self::path(self.shard));
        let mut text = serde_json::to_string_pretty(self).map_err(|e| StoreError::encode(&path, e))?;
        text.push('\n');
        write_atomic(&path, |f| f.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
        Ok(())
    }

    /// Whether this marker is of this job, names exactly the layout's files and rows, and its files are as `look` wants
    /// them.
    fn is_whole(&self, shard: u64, job: &str, layout: &Layout, look: &dyn Fn(&FileRecord) -> bool) -> bool {
        let expected = std::iter::once(tokens_path(shard))
            .chain(layout.columns.iter().map(|c| c.path(shard, layout.format)));
        let first = shard.saturating_mul(layout.shard_rows);
        let planned = layout.planned_rows.map(|rows| rows.saturating_sub(first).min(layout.shard_rows));
        self.job == job
            && self.shard == shard
            && self.first_row_id == first
            && (1..=layout.shard_rows).contains(&self.rows)
            && planned.is_none_or(|rows| rows == self.rows)
            && self.files.iter().map(|f| &f.path).eq(expected.collect::<Vec<_>>().iter())
            && self.files.iter().all(look)
    }
}

impl FileRecord {
    /// Whether the file is there in full length.
    fn is_there(&self, dir: &Path) -> bool {
        fs::metadata(dir.join(&self.path)).is_ok_and(|m| m.is_file() && m.len() == self.bytes)
    }

    /// Whether it is there, bit by bit.
    fn is_intact(&self, dir: &Path) -> bool {
        self.is_there(dir)
            && hash_file(&dir.join(&self.path)).is_ok_and(|hash| format!("{hash:016x}") == self.xxh64)
    }
}

/// The whole shards of a job's folder, by number, as far as the sizes of their files tell. Looks only.
///
/// # Errors
/// [`RunError::Io`] if the folder cannot be read. A damaged marker is no error: its shard is not whole.
pub fn whole_shards(
    dir: &Path,
    job: &str,
    layout: &Layout,
) -> Result<BTreeMap<u64, ShardMarker>, StoreError> {
    shards(dir, |shard, marker| marker.is_whole(shard, job, layout, &|file| file.is_there(dir)))
}

/// As [`whole_shards`], with every file read and its checksum compared.
///
/// # Errors
/// As [`whole_shards`].
pub fn intact_shards(
    dir: &Path,
    job: &str,
    layout: &Layout,
) -> Result<BTreeMap<u64, ShardMarker>, StoreError> {
    shards(dir, |shard, marker| marker.is_whole(shard, job, layout, &|file| file.is_intact(dir)))
}

/// The shards whose markers are accepted; they are looked at side by side.
fn shards(
    dir: &Path,
    accept: impl Fn(u64, &ShardMarker) -> bool + Sync,
) -> Result<BTreeMap<u64, ShardMarker>, StoreError> {
    let folder = dir.join("shards");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(RunError::io("read", &folder, e).into()),
    };
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    let read = |path: PathBuf| {
        let shard = owned_shard(path.strip_prefix(dir).unwrap_or(&path))?;
        let marker = serde_json::from_slice::<ShardMarker>(&fs::read(&path).ok()?).ok()?;
        accept(shard, &marker).then_some((shard, marker))
    };
    Ok(paths.map_err(|e| RunError::io("read", &folder, e))?.into_par_iter().filter_map(read).collect())
}

/// Removes the files of all shards but these, so that they are written anew.
///
/// # Errors
/// [`RunError::Io`] naming what could not be read or removed.
pub(super) fn keep_only(dir: &Path, whole: &BTreeMap<u64, ShardMarker>) -> Result<(), StoreError> {
    let broken = |relative: &Path| owned_shard(relative).is_some_and(|shard| !whole.contains_key(&shard));
    Ok(crate::results::run::sweep(dir, &broken)?)
}

/// The shard that a path inside the export belongs to, if an export would write such a path.
pub(crate) fn owned_shard(relative: &Path) -> Option<u64> {
    let parts: Vec<&str> = relative.iter().map(|p| p.to_str()).collect::<Option<_>>()?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| n.to_string() == text);
    match parts[..] {
        ["shards", file] => number(file.strip_suffix(".done")?),
        ["tokens", file] => number(file.strip_prefix("shard=")?.strip_suffix(".parquet")?),
        ["acts", hook, layer, file] => {
            hook.strip_prefix("hook=")?;
            number(layer.strip_prefix("layer=")?)?;
            let (stem, ext) = file.strip_prefix("shard=")?.split_once('.')?;
            ["parquet", "arrow", "npy", "safetensors"].contains(&ext).then(|| number(stem))?
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        for (path, shard) in [
            ("shards/3.done", Some(3)),
            ("tokens/shard=0.parquet", Some(0)),
            ("acts/hook=z/layer=11/shard=2.npy", Some(2)),
            ("acts/hook=z/layer=11/notes.npy", None),
            ("acts/hook=z/layer=11/shard=02.npy", None),
            ("acts/hook=z/layer=11/shard=2.txt", None),
            ("shards/3.done.bak", None),
            ("manifest.json", None),
            ("paper/tokens/shard=0.parquet", None),
        ] {
            assert_eq!(owned_shard(Path::new(path)), shard, "{path}");
        }
    }
}
