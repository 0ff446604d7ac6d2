//! Which files hold a model's weights, in the order in which transformers looks for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{ModelError, gguf::Gguf};

/// Name of the single weights file.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the index of a sharded model.
pub const INDEX: &str = "model.safetensors.index.json";

/// What transformers looks for, in its order: one file, or the index of several.
const USUAL: [&str; 4] = [WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// The same with the name of a variant between; the first that is there counts, where nothing without a variant is.
const VARIANTS: [&str; 4] = ["fp32", "bf16", "fp16", "non_ema"];

/// The format of a file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightFormat {
    Safetensors,
    Gguf,
    /// A zip with a pickle, as `torch.save` writes it.
    Pickle,
}

impl WeightFormat {
    /// By the file's name, which is one of [`weight_files`].
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("bin") => Self::Pickle,
            Some(gguf) if gguf.eq_ignore_ascii_case("gguf") => Self::Gguf,
            _ => Self::Safetensors,
        }
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of a model folder's weights, sorted by name: the single file, or those that the index names.
///
/// `model.safetensors` comes before `pytorch_model.bin`, whole names before variants (`model.fp16.safetensors`). Where
/// none of these is there, the `*.safetensors` that are count, if they are one file or all shards of one model. A path
/// that is a file is that file, a GGUF.
///
/// # Errors
/// When there are none, or the index is not valid or names a file outside the folder.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    if dir.is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    match first_weights(|name| dir.join(name).is_file()) {
        Some(index) if is_index(&index) => {
            Ok(shard_names(&dir.join(index))?.into_iter().map(|name| dir.join(name)).collect())
        }
        Some(file) => Ok(vec![dir.join(file)]),
        None => Gguf::file_of(dir).map_or_else(|| without_index(dir), |file| Ok(vec![file])),
    }
}

/// Whether a file of [`first_weights`] is the index of several.
pub fn is_index(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "json")
}

/// The first file or index of weights that is there.
pub fn first_weights(there: impl Fn(&str) -> bool) -> Option<String> {
    let variants = VARIANTS.iter().flat_map(|variant| USUAL.map(|name| with_variant(name, variant)));
    USUAL.map(str::to_owned).into_iter().chain(variants).find(|name| there(name))
}

/// `model.safetensors` of variant `fp16` is `model.fp16.safetensors`, and its index
/// `model.safetensors.index.fp16.json`.
fn with_variant(name: &str, variant: &str) -> String {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    format!("{stem}.{variant}.{extension}")
}

/// The `*.safetensors` of a folder without an index.
fn without_index(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: BTreeSet<String> =
        names.filter(|name| plain(name) && name.ends_with(".safetensors")).collect();
    let none = |reason: String| Err(ModelError::NoWeights { path: dir.to_owned(), reason });
    let shards: Vec<_> = names.iter().filter_map(|name| shard(name)).collect();
    let Some(&(stem, _, count)) = shards.first() else {
        return match names.len() {
            0 => none("no model.safetensors, no pytorch_model.bin and no index of them".into()),
            1 => Ok(names.into_iter().map(|name| dir.join(name)).collect()),
            n => none(format!("{n} safetensors files and no index that says which of them are the model")),
        };
    };
    let whole = (1..=count).all(|n| shards.contains(&(stem, n, count)));
    if whole && shards.len() == count {
        return Ok(names.iter().filter(|name| shard(name).is_some()).map(|name| dir.join(name)).collect());
    }
    none(format!("no index, and {} of the {count} shards of {stem} alone", shards.len()))
}

/// Stem, number and count of `model-00001-of-00003.safetensors`.
fn shard(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, count.parse().ok().filter(|n| (1..=100_000).contains(n))?))
}

/// The distinct shards of an index, sorted. The names come from strangers: they must be files of the index's folder.
///
/// # Errors
/// When the file is no index, is empty, or names anything but a plain file of weights.
pub fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    let bad = |reason: String| ModelError::Corrupt { path: index.to_owned(), reason };
    let text = std::fs::read(index).map_err(|source| ModelError::Io { path: index.to_owned(), source })?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| bad(format!("not a shard index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(bad("the shard index names no tensor".into()));
    }
    // An index of pickles names pickles, one of safetensors never does.
    let pickles =
        index.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pytorch_model.bin"));
    let kind = if pickles { ".bin" } else { ".safetensors" };
    match names.iter().find(|name| !(plain(name) && name.ends_with(kind))) {
        Some(name) => Err(bad(format!("shard {name:?} is not a plain *{kind} file name"))),
        None => Ok(names.into_iter().collect()),
    }
}

fn plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let whole = name.rsplit_once('.').is_some_and(|(stem, _)| !stem.is_empty());
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

    /// The files of a folder that holds these, without their contents.
    fn found(names: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let shard = if name.contains("bin") { "p-1.bin" } else { "s-1.safetensors" };
            std::fs::write(dir.path().join(name), format!(r#"{{"weight_map":{{"w":"{shard}"}}}}"#)).unwrap();
        }
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let files = weight_files(dir.path()).map(|files| files.into_iter().map(name).collect());
        files.map_err(|e| e.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    #[test]
    fn files_are_looked_for_in_the_order_of_transformers() {
        let mut there = vec![
            ("model.safetensors", "model.safetensors"),
            ("model.safetensors.index.json", "s-1.safetensors"),
            ("pytorch_model.bin", "pytorch_model.bin"),
            ("pytorch_model.bin.index.json", "p-1.bin"),
            ("model.bf16.safetensors", "model.bf16.safetensors"),
            ("model.fp16.safetensors", "model.fp16.safetensors"),
            ("model.safetensors.index.fp16.json", "s-1.safetensors"),
            ("pytorch_model.fp16.bin", "pytorch_model.fp16.bin"),
            ("pytorch_model.bin.index.fp16.json", "p-1.bin"),
        ];
        while !there.is_empty() {
            let names: Vec<_> = there.iter().map(|(name, _)| *name).collect();
            assert_eq!(found(&names).unwrap(), [there[0].1], "{names:?}");
            there.remove(0);
        }
    }

    #[test]
    fn files_without_an_index_count_when_they_are_whole() {
        assert_eq!(found(&["weights.safetensors"]).unwrap(), ["weights.safetensors"]);
        let [one, two] = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        assert_eq!(found(&["m-00001-of-00001.safetensors"]).unwrap().len(), 1);
        assert_eq!(found(&[two, one, "other.safetensors"]).unwrap(), [one, two]);
        for (names, says) in [
            (&[two][..], "DIR: no index, and 1 of the 2 shards of m alone"),
            (
                &["a.safetensors", "b.safetensors"],
                "DIR: 2 safetensors files and no index that says which of them are the model",
            ),
            (&["flax_model.msgpack"], "DIR: no model.safetensors, no pytorch_model.bin and no index of them"),
        ] {
            assert_eq!(found(names).unwrap_err(), says);
        }
    }

    #[test]
    fn pickles_are_named_by_their_own_index_alone() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("pytorch_model.bin.index.json");
        let named = |shard: &str| {
            std::fs::write(&index, serde_json::json!({"weight_map": {"w": shard}}).to_string()).unwrap();
            shard_names(&index).map_err(|e| e.to_string())
        };
        assert_eq!(named("pytorch_model-00001-of-00001.bin").unwrap().len(), 1);
        for bad in ["../x.bin", "a/x.bin", "x.safetensors", ".bin", "x.pkl"] {
            assert!(named(bad).unwrap_err().contains("is not a plain *.bin file name"), "{bad}");
        }
    }
}
