//! Which files make a model, and which of them a folder lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{HubError, has_file};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Read when they are there.
pub(super) const OPTIONAL: [&str; 3] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"];

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a model folder, sorted by name: `model.safetensors`, else the shards its index names.
///
/// # Errors
/// [`HubError::MissingFile`] names what is not there; [`HubError::BadIndex`] and [`HubError::BadShard`] a bad
/// index.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, HubError> {
    let names = weight_names(dir)?;
    if let Some(file) = names.iter().find(|name| !has_file(dir, name)) {
        return Err(HubError::MissingFile { path: dir.to_owned(), file: file.clone() });
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// The first file that a whole model needs and `dir` lacks: configuration, tokenizer or weights.
///
/// # Errors
/// [`HubError::BadIndex`] and [`HubError::BadShard`] when there is an index that cannot be used.
pub fn missing_file(dir: &Path) -> Result<Option<String>, HubError> {
    if let Some(name) = [CONFIG, TOKENIZER].into_iter().find(|name| !has_file(dir, name)) {
        return Ok(Some(name.to_owned()));
    }
    match weight_files(dir) {
        Ok(_) => Ok(None),
        Err(HubError::MissingFile { file, .. }) => Ok(Some(file)),
        Err(error) => Err(error),
    }
}

fn weight_names(dir: &Path) -> Result<Vec<String>, HubError> {
    if has_file(dir, WEIGHTS) {
        return Ok(vec![WEIGHTS.to_owned()]);
    }
    if !has_file(dir, INDEX) {
        return Err(HubError::MissingFile { path: dir.to_owned(), file: WEIGHTS.to_owned() });
    }
    shard_names(&dir.join(INDEX))
}

/// The distinct shards of an index, sorted. The names come from strangers: they must stay inside the folder.
pub(super) fn shard_names(index: &Path) -> Result<Vec<String>, HubError> {
    let bad = |reason: String| HubError::BadIndex { path: index.to_owned(), reason };
    let text = std::fs::read(index).map_err(HubError::io(index))?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| bad(format!("not a shard index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(bad("the shard index names no tensor".into()));
    }
    match names.iter().find(|name| !plain_shard(name)) {
        Some(shard) => Err(HubError::BadShard { path: index.to_owned(), shard: shard.clone() }),
        None => Ok(names.into_iter().collect()),
    }
}

fn plain_shard(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let whole = name.strip_suffix(".safetensors").is_some_and(|stem| !stem.is_empty());
    whole && name.chars().all(plain) && !name.contains("..") && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_index(json: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(INDEX), json).unwrap();
        dir
    }

    #[test]
    fn shards_are_distinct_and_sorted() {
        let dir = with_index(
            r#"{"metadata":{},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}}"#,
        );
        assert_eq!(weight_names(dir.path()).unwrap(), ["a.safetensors", "b.safetensors"]);
        std::fs::write(dir.path().join("a.safetensors"), "").unwrap();
        let error = weight_files(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("holds no b.safetensors"), "{error}");
    }

    #[test]
    fn shards_outside_the_folder_are_refused() {
        let absolute = "/etc/x.safetensors";
        for bad in [
            "../x.safetensors",
            absolute,
            "a/x.safetensors",
            "..",
            "x.bin",
            ".safetensors",
            "a\\b.safetensors",
            "",
        ] {
            let dir = with_index(&serde_json::json!({"weight_map": {"w": bad}}).to_string());
            assert!(matches!(weight_files(dir.path()), Err(HubError::BadShard { .. })), "{bad:?}");
        }
    }

    #[test]
    fn broken_indexes_are_named() {
        for bad in ["", "[]", "{}", r#"{"weight_map":{}}"#, r#"{"weight_map":{"w":1}}"#] {
            let error = weight_files(with_index(bad).path()).unwrap_err();
            assert!(matches!(error, HubError::BadIndex { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn missing_goes_from_config_to_weights() {
        let dir = tempfile::tempdir().unwrap();
        for name in [CONFIG, TOKENIZER, WEIGHTS] {
            assert_eq!(missing_file(dir.path()).unwrap().as_deref(), Some(name));
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(missing_file(dir.path()).unwrap(), None);
    }
}
