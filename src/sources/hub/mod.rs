//! Where a model is: a local folder, the Hugging Face cache, or the hub itself.
//!
//! The cache is the one that `huggingface_hub` uses, in its own layout, so that both find what the other one
//! downloaded: `models--org--name/{refs/main -> commit, snapshots/<commit>/file -> ../../blobs/<etag>}`.

mod cache;
mod client;
mod download;
mod error;
mod files;
mod name;
mod progress;
mod sha;
mod transfer;

pub use error::{HubError, Token};
pub use files::missing_file;
pub use progress::{FileStart, Progress};
pub use sha::{model_sha256, tokenizer_sha256};

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Gguf;
use name::ModelName;

/// A model folder on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir {
    /// The folder that holds `config.json`.
    pub path: PathBuf,
    /// The hub id, when the model was named by one.
    pub id: Option<String>,
    /// The commit of the snapshot, when the model was named by a hub id.
    pub revision: Option<String>,
}

/// Settings of the hub: where the cache is, and how to reach the network.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The cache folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// Base address of the hub, without a trailing slash.
    pub endpoint: String,
    /// Access token. It goes to the endpoint alone, and over plain http only on this machine.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
    /// How long the hub may stay silent before a connection is given up.
    pub patience: Duration,
}

/// Seconds of [`Hub::patience`] where nothing else is said.
const PATIENCE: u64 = 30;

/// Resolves `model` with the settings of the environment; see [`Hub::resolve`].
///
/// # Errors
/// Those of [`Hub::from_env`] and [`Hub::resolve`].
pub fn resolve(
    model: impl AsRef<OsStr>,
    revision: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<ModelDir, HubError> {
    match ModelName::parse(model.as_ref(), revision)? {
        // A folder needs no cache, and so no HOME.
        ModelName::Folder(path) => local(path, revision),
        ModelName::Id { id, revision } => Hub::from_env()?.find(id, revision, progress),
    }
}

impl Hub {
    /// Reads the variables that `huggingface_hub` reads: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` (seconds).
    ///
    /// # Errors
    /// [`HubError::NoCache`] when neither these variables nor `HOME` say where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_vars(|key| env::var(key).ok().filter(|value| !value.is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let folder = |key: &str| var(key).map(|value| name::expand_home(&value, var("HOME").as_deref()));
        let home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface")));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
            .ok_or(HubError::NoCache)?;
        let token_file = folder("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let token = var("HF_TOKEN")
            .or_else(|| var("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file?).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = var("HF_HUB_OFFLINE")
            .is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"));
        let patience =
            var("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse().ok()).unwrap_or(PATIENCE);
        Ok(Self {
            patience: Duration::from_secs(patience.max(1)),
            cache: std::path::absolute(&cache).map_err(HubError::io(&cache))?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            offline,
        })
    }

    /// Finds `model`: a folder that exists, else a hub id (`name`, `org/name` or `org/name@revision`) in the
    /// cache, else on the hub. A model that is whole in the cache costs no request.
    ///
    /// # Errors
    /// One line that names what is wrong: no such folder, a file that is missing, an id that is none, no
    /// access, no network, pickle weights only, a broken index, a download that does not match its size or
    /// SHA-256.
    pub fn resolve(
        &self,
        model: impl AsRef<OsStr>,
        revision: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<ModelDir, HubError> {
        match ModelName::parse(model.as_ref(), revision)? {
            ModelName::Folder(path) => local(path, revision),
            ModelName::Id { id, revision } => self.find(id, revision, progress),
        }
    }

    /// A hub id in the cache, else on the hub.
    fn find(&self, id: String, revision: String, progress: &mut dyn Progress) -> Result<ModelDir, HubError> {
        let found = match cache::find(&self.cache, &id, &revision)? {
            cache::Found::Whole(snapshot) => snapshot,
            cache::Found::Lacks(missing) if self.offline => {
                return Err(HubError::Offline { id, revision, cache: self.cache.clone(), missing });
            }
            cache::Found::Lacks(_) => download::fetch(self, &id, &revision, progress)?,
        };
        Ok(ModelDir { path: found.path, id: Some(id), revision: Some(found.commit) })
    }
}

/// A local folder needs no more than `config.json` here, and a GGUF file is a model of its own; whoever reads the
/// weights or the tokenizer says what they lack.
fn local(path: PathBuf, revision: Option<&str>) -> Result<ModelDir, HubError> {
    if let Some(revision) = revision {
        return Err(HubError::LocalRevision { path, revision: revision.to_owned() });
    }
    if Gguf::file_of(&path).is_some() {
        return Ok(ModelDir { path, id: None, revision: None });
    }
    if !path.is_dir() {
        return Err(if path.exists() { HubError::NotAFolder { path } } else { name::no_folder(path) });
    }
    if !has_file(&path, files::CONFIG) {
        return Err(HubError::MissingFile { path, file: files::CONFIG.to_owned() });
    }
    Ok(ModelDir { path, id: None, revision: None })
}

/// Follows links, so a link into a blob that is gone counts as missing.
fn has_file(dir: &Path, name: &str) -> bool {
    dir.join(name).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(vars: &[(&str, &str)]) -> Hub {
        let find = |key: &str| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        Hub::from_vars(find).unwrap()
    }

    #[test]
    fn cache_variables_go_from_the_most_to_the_least_specific() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (i, want) in expected.iter().enumerate() {
            assert_eq!(hub(&all[i..]).cache, Path::new(want));
        }
        assert!(matches!(Hub::from_vars(|_| None), Err(HubError::NoCache)));
    }

    #[test]
    fn token_comes_from_the_variable_then_from_the_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "hf_env")]).token.as_deref(), Some("hf_env"));
        assert_eq!(hub(&[("HF_HOME", "/nowhere")]).token, None);
    }

    #[test]
    fn endpoint_and_offline() {
        let plain = hub(&[("HF_HOME", "~/hf"), ("HOME", "/home/u")]);
        assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
        assert_eq!(plain.cache, Path::new("/home/u/hf/hub"));
        assert_eq!(plain.patience, Duration::from_secs(30));
        let quick = hub(&[("HF_HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", "7")]);
        assert_eq!(quick.patience, Duration::from_secs(7));
        let set = hub(&[("HF_HOME", "/h"), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "true")]);
        assert_eq!((set.endpoint.as_str(), set.offline), ("http://mirror", true));
        assert!(!hub(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn a_local_folder_must_hold_a_config() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let hub = hub(&[("HF_HOME", "/nowhere"), ("HF_HUB_OFFLINE", "1")]);
        let error = hub.resolve(path, None, &mut ()).unwrap_err();
        assert_eq!(error.to_string(), format!("{path} holds no config.json"));
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert_eq!(hub.resolve(path, None, &mut ()).unwrap().path, dir.path());
        let error = hub.resolve(path, Some("v1"), &mut ()).unwrap_err();
        assert!(matches!(error, HubError::LocalRevision { .. }), "{error}");
        let error = hub.resolve(format!("{path}/config.json"), None, &mut ()).unwrap_err();
        assert!(matches!(error, HubError::NotAFolder { .. }), "{error}");
    }
}
