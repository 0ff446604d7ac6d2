//! A folder of shards: the files of one data set, by name.

use super::compression::Compression;
use super::{Format, TextError};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What lies beside the shards that the libraries of the hub write.
const BESIDE: [&str; 3] = ["dataset_info.json", "dataset_dict.json", "state.json"];
/// Extensions of data that are not read: better an error than a part of a data set.
const UNREAD: [&str; 6] = ["bz2", "xz", "zip", "7z", "lz4", "tar"];

/// Data files, with every folder among `paths` replaced by its shards in the order of their names.
///
/// # Errors
/// [`TextError::Folder`] when a folder has none, or shards of several formats.
pub fn data_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, TextError> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        if path.is_dir() {
            files.extend(shards(path)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn shards(folder: &Path) -> Result<Vec<PathBuf>, TextError> {
    let bad = |why: String| TextError::Folder { path: folder.into(), why };
    if let Some(listed) = listed(folder) {
        return Ok(listed);
    }
    let io = |source| TextError::io(folder.display().to_string(), source);
    let entries = folder.read_dir().map_err(io)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(io)?;
    entries.retain(|path| !name(path).starts_with('.') && !BESIDE.contains(&name(path).as_str()));
    entries.sort();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let unread = |path: &&PathBuf| {
        UNREAD.iter().any(|ending| name(path).to_lowercase().ends_with(&format!(".{ending}")))
    };
    if let Some(path) = files.iter().find(unread) {
        return Err(bad(format!("with {}, which is not read: unpack it", name(path))));
    }
    let known: Vec<PathBuf> = files.into_iter().filter(|path| Format::of(path).is_ok()).collect();
    let kind = |path: &Path| (Format::of(path).ok(), Compression::of(path).1);
    match known.first() {
        None if folders.is_empty() => Err(bad("without a data file".into())),
        None => {
            let names: Vec<_> = folders.iter().map(|folder| name(folder)).collect();
            Err(bad(format!("without a data file; give one of its folders: {}", names.join(", "))))
        }
        Some(first) => match known.iter().find(|path| kind(path) != kind(first)) {
            Some(other) => Err(bad(format!(
                "of several formats, {} and {}: give the files of one",
                name(first),
                name(other)
            ))),
            None => Ok(known),
        },
    }
}

/// The files that `datasets` lists in `state.json`: there may be others, of its cache, beside them.
fn listed(folder: &Path) -> Option<Vec<PathBuf>> {
    let state: Value = serde_json::from_slice(&std::fs::read(folder.join("state.json")).ok()?).ok()?;
    let files = state["_data_files"].as_array()?;
    // A name, not a path: what is listed lies in the folder.
    let one = |file: &Value| {
        file["filename"].as_str().and_then(|file| Path::new(file).file_name()).map(|file| folder.join(file))
    };
    files.iter().map(one).collect::<Option<Vec<_>>>().filter(|files| !files.is_empty())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_by_name_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let found = || {
            let files = data_files(&[dir.path().to_owned()]);
            files
                .map(|files| files.iter().map(|file| name(file)).collect::<Vec<_>>().join(" "))
                .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
        };
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(found().unwrap_err(), "DIR: is a folder without a data file");
        std::fs::create_dir(dir.path().join("train")).unwrap();
        std::fs::create_dir(dir.path().join("test")).unwrap();
        let says = "DIR: is a folder without a data file; give one of its folders: test, train";
        assert_eq!(found().unwrap_err(), says);
        for name in ["b.jsonl", "a.jsonl", "README.md", ".hidden.jsonl", "dataset_info.json", "LICENSE"] {
            write(name, "");
        }
        assert_eq!(found().unwrap(), "a.jsonl b.jsonl");
        write("c.jsonl.bz2", "");
        assert_eq!(found().unwrap_err(), "DIR: is a folder with c.jsonl.bz2, which is not read: unpack it");
        std::fs::remove_file(dir.path().join("c.jsonl.bz2")).unwrap();
        write("b.jsonl.gz", "");
        assert!(
            found()
                .unwrap_err()
                .ends_with("of several formats, a.jsonl and b.jsonl.gz: give the files of one")
        );
        write("state.json", r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}"#);
        write("cache-1.arrow", "");
        assert_eq!(found().unwrap(), "data-00000-of-00001.arrow");
        write("state.json", r#"{"_data_files": [{"filename": "../../outside.arrow"}]}"#);
        assert_eq!(found().unwrap(), "outside.arrow");
    }
}
