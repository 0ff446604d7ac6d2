//! Which files hold a model's weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::ModelError;

/// Name of the single weights file.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the index of a sharded model.
pub const INDEX: &str = "model.safetensors.index.json";

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The safetensors files of a model folder, sorted by name: the single file, or those the index names.
///
/// # Errors
/// When there are none, or the index is not valid or names a file outside the folder.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    if dir.join(WEIGHTS).is_file() {
        return Ok(vec![dir.join(WEIGHTS)]);
    }
    let index = dir.join(INDEX);
    if !index.is_file() {
        let pickles =
            ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|f| dir.join(f).exists());
        let reason = if pickles {
            "only pytorch_model.bin, a pickle, which is never read; save the model as safetensors with transformers"
        } else {
            "no model.safetensors and no model.safetensors.index.json"
        };
        return Err(ModelError::NoWeights { path: dir.to_owned(), reason: reason.into() });
    }
    Ok(shard_names(&index)?.into_iter().map(|name| dir.join(name)).collect())
}

/// The distinct shards of an index, sorted. The names come from strangers: they must be files of the index's folder.
///
/// # Errors
/// When the file is no index, is empty, or names anything but a plain `*.safetensors` file.
pub fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    let bad = |reason: String| ModelError::Corrupt { path: index.to_owned(), reason };
    let text = std::fs::read(index).map_err(|source| ModelError::Io { path: index.to_owned(), source })?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| bad(format!("not a shard index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(bad("the shard index names no tensor".into()));
    }
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(bad(format!("shard {name:?} is not a plain *.safetensors file name"))),
        None => Ok(names.into_iter().collect()),
    }
}

fn plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let whole = name.strip_suffix(".safetensors").is_some_and(|stem| !stem.is_empty());
    whole && name.chars().all(allowed) && !name.contains("..") && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(json: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(INDEX), json).unwrap();
        shard_names(&dir.path().join(INDEX)).map_err(|e| e.to_string())
    }

    #[test]
    fn shards_are_distinct_and_sorted() {
        let json =
            r#"{"metadata":{},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}}"#;
        assert_eq!(shards(json).unwrap(), ["a.safetensors", "b.safetensors"]);
    }

    #[test]
    fn shards_outside_the_folder_are_refused() {
        for bad in [
            "../x.safetensors",
            "/etc/x.safetensors",
            "a/x.safetensors",
            "..",
            "x.bin",
            ".safetensors",
            "a\\b.safetensors",
            "",
        ] {
            let error = shards(&serde_json::json!({"weight_map": {"w": bad}}).to_string()).unwrap_err();
            assert!(error.contains("is not a plain *.safetensors file name"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn broken_indexes_are_named() {
        for bad in ["", "[]", "{}", r#"{"weight_map":{}}"#, r#"{"weight_map":{"w":1}}"#] {
            assert!(shards(bad).unwrap_err().contains(INDEX), "{bad:?}");
        }
    }
}
