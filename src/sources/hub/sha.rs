//! SHA-256 of the files that a result depends on, for the manifests.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{HubError, files};
use crate::model::{Gguf, ModelError, weight_files};
use crate::results::hash::{sha256, sha256_file};
use crate::sources::text::tokenizer_json;

/// SHA-256 of a model's weights, in hex. One file: its own hash, as `sha256sum` prints it. Shards: the hash
/// of the sorted lines `hash  name\n`, that is `sha256sum *.safetensors | sha256sum`. `progress` hears of
/// bytes read, from any thread.
///
/// # Errors
/// Those of [`weight_files`], and [`HubError::Io`] for a file that cannot be read.
pub fn model_sha256(dir: &Path, progress: impl Fn(u64) + Sync) -> Result<String, HubError> {
    let paths = weight_files(dir)?;
    let hashes: Vec<String> =
        paths.par_iter().map(|path| file_sha256(path, &progress)).collect::<Result<_, _>>()?;
    if let [one] = hashes.as_slice() {
        return Ok(one.clone());
    }
    let line = |(path, hash): (&PathBuf, &String)| {
        format!("{hash}  {}\n", path.file_name().unwrap_or_default().to_string_lossy())
    };
    let lines: String = paths.iter().zip(&hashes).map(line).collect();
    Ok(sha256(lines.as_bytes()))
}

/// SHA-256 of `tokenizer.json`, in hex; of a GGUF file, of what stands in its place.
///
/// # Errors
/// [`HubError::Io`] when it cannot be read.
pub fn tokenizer_sha256(dir: &Path) -> Result<String, HubError> {
    if let Some(file) = Gguf::file_of(dir).filter(|_| !dir.join(files::TOKENIZER).is_file()) {
        let text = Gguf::open(&file).map_err(HubError::from).and_then(|file| {
            let json = tokenizer_json(&file);
            json.map_err(|message| {
                HubError::from(ModelError::Corrupt { path: file.path().to_owned(), reason: message })
            })
        });
        return Ok(sha256(text?.to_string().as_bytes()));
    }
    file_sha256(&dir.join(files::TOKENIZER), &|_| ())
}

fn file_sha256(path: &Path, progress: &impl Fn(u64)) -> Result<String, HubError> {
    sha256_file(path, progress).map_err(HubError::io(path))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, "abc"

    #[test]
    fn one_file_is_its_own_hash() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.safetensors"), "abc").unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), "abc").unwrap();
        let read = AtomicU64::new(0);
        let hash = model_sha256(dir.path(), |n| _ = read.fetch_add(n, Ordering::Relaxed)).unwrap();
        assert_eq!((hash.as_str(), read.into_inner()), (ABC, 3));
        assert_eq!(tokenizer_sha256(dir.path()).unwrap(), ABC);
    }

    #[test]
    fn shards_hash_as_sha256sum_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map":{"x":"b.safetensors","y":"a.safetensors"}}"#;
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        std::fs::write(dir.path().join("a.safetensors"), "abc").unwrap();
        std::fs::write(dir.path().join("b.safetensors"), "").unwrap();
        // printf abc > a.safetensors; : > b.safetensors; sha256sum *.safetensors | sha256sum
        let expected = "d2d04e7d28b904f67fba46ec8a63649be04d39b956a8383039d8798ffd8ae516";
        assert_eq!(model_sha256(dir.path(), |_| ()).unwrap(), expected);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = tokenizer_sha256(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/tokenizer.json: "), "{error}");
    }
}
