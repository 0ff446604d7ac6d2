//! Shard markers: a shard counts once `shards/K.done` lies there and every file it names has the size it says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::schema::tokens_path;
use super::{Layout, StoreError};
use crate::run::{RunError, write_atomic};

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

    pub(crate) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(Self::path(self.shard));
        let mut text = serde_json::to_string_pretty(self).map_err(|e| StoreError::encode(&path, e))?;
        text.push('\n');
        write_atomic(&path, |f| f.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
        Ok(())
    }

    /// Whether this marker is of this job, names exactly the layout's files, and those are there in full length.
    fn is_whole(&self, dir: &Path, shard: u64, job: &str, layout: &Layout) -> bool {
        let expected = std::iter::once(tokens_path(shard))
            .chain(layout.columns.iter().map(|c| c.path(shard, layout.format)));
        let there =
            |f: &FileRecord| fs::metadata(dir.join(&f.path)).is_ok_and(|m| m.is_file() && m.len() == f.bytes);
        self.job == job
            && self.shard == shard
            && (1..=layout.shard_rows).contains(&self.rows)
            && self.files.iter().map(|f| &f.path).eq(expected.collect::<Vec<_>>().iter())
            && self.files.iter().all(there)
    }
}

/// The whole shards of a job's folder, by number. Looks only.
///
/// # Errors
/// [`RunError::Io`] if the folder cannot be read. A damaged marker is no error: its shard is not whole.
pub fn whole_shards(
    dir: &Path,
    job: &str,
    layout: &Layout,
) -> Result<BTreeMap<u64, ShardMarker>, StoreError> {
    let folder = dir.join("shards");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(RunError::io("read", &folder, e).into()),
    };
    let mut whole = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|e| RunError::io("read", &folder, e))?.path();
        let relative = path.strip_prefix(dir).unwrap_or(&path);
        let Some(shard) = owned_shard(relative) else { continue };
        let marker = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<ShardMarker>(&text).ok());
        whole.extend(marker.filter(|m| m.is_whole(dir, shard, job, layout)).map(|m| (shard, m)));
    }
    Ok(whole)
}

/// As [`whole_shards`]; removes the files of all other shards, so that they are written anew.
///
/// # Errors
/// [`RunError::Io`] naming what could not be read or removed.
pub fn finished_shards(
    dir: &Path,
    job: &str,
    layout: &Layout,
) -> Result<BTreeMap<u64, ShardMarker>, StoreError> {
    let whole = whole_shards(dir, job, layout)?;
    crate::run::sweep(dir, &|relative| {
        owned_shard(relative).is_some_and(|shard| !whole.contains_key(&shard))
    })?;
    Ok(whole)
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
