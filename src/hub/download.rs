//! Downloads a model into the cache.
//!
//! `hf-hub` moves the bytes, into a staging folder beside the cache's own: a file enters the cache by one
//! rename, after its size (and its SHA-256, where the hub tells it) has been checked, and the branch's
//! reference is written last. So neither a kill nor a broken server leaves something that passes as whole,
//! and the next call goes on where this one stopped.

use std::fs::{self, File};
use std::path::Path;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

use super::cache::{self, Found, Snapshot};
use super::transfer::{Fetcher, ignore_missing, make_parent};
use super::{FileStart, Hub, HubError, Progress, files, has_file};
use crate::model::{INDEX, WEIGHTS, shard_names};

/// Downloads what the cache lacks of `id` at `revision`, one process at a time.
pub(super) fn fetch(
    hub: &Hub,
    id: &str,
    revision: &str,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    let _lock = lock(&hub.cache, id, progress)?;
    if let Found::Whole(snapshot) = cache::find(&hub.cache, id, revision)? {
        return Ok(snapshot); // another process fetched it while we waited
    }
    let repo = cache::repo_dir(&hub.cache, id);
    let staging = repo.join(".partial");
    let api = api(hub, &staging)?;
    let info = info(hub, &api, id, revision)?;
    let snapshot = Snapshot { path: repo.join("snapshots").join(&info.sha), commit: info.sha.clone() };
    // Pinned to the commit, so that a branch that moves meanwhile cannot mix two versions.
    let remote = api.repo(Repo::with_revision(id.to_owned(), RepoType::Model, info.sha.clone()));
    let fetcher = Fetcher { hub, id, revision, repo: &repo, staging: &staging, api, remote };
    fetcher.all(&info, &snapshot.path, progress)?;
    if revision != snapshot.commit {
        write_reference(&repo.join("refs").join(revision), &snapshot.commit)?;
    }
    fs::remove_dir_all(&staging).or_else(ignore_missing).map_err(HubError::io(&staging))?;
    Ok(snapshot)
}

/// `huggingface_hub` keeps its locks in the same folder.
fn lock(cache: &Path, id: &str, progress: &mut dyn Progress) -> Result<File, HubError> {
    let dir = cache::repo_dir(&cache.join(".locks"), id);
    fs::create_dir_all(&dir).map_err(HubError::io(&dir))?;
    let path = dir.join("layerscope.lock");
    let file = File::create(&path).map_err(HubError::io(&path))?;
    if file.try_lock().is_err() {
        progress.waiting(id);
        file.lock().map_err(HubError::io(&path))?;
    }
    Ok(file)
}

fn api(hub: &Hub, staging: &Path) -> Result<Api, HubError> {
    ApiBuilder::from_cache(Cache::new(staging.to_owned()))
        .with_endpoint(hub.endpoint.clone())
        .with_token(hub.token.clone())
        .with_progress(false)
        .build()
        .map_err(|error| HubError::Network { url: hub.endpoint.clone(), reason: error.to_string() })
}

/// Asks for the commit and the file list.
fn info(hub: &Hub, api: &Api, id: &str, revision: &str) -> Result<RepoInfo, HubError> {
    let url = format!("{}/api/models/{id}/revision/{revision}", hub.endpoint);
    let network = |reason: String| HubError::Network { url: url.clone(), reason };
    let request =
        api.repo(Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned())).info_request();
    let mut answer = request
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .map_err(|error| network(error.to_string()))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(refused(hub, id, revision, &url, status));
    }
    let info: RepoInfo = answer.body_mut().read_json().map_err(|error| network(error.to_string()))?;
    if !cache::is_commit(&info.sha) {
        return Err(HubError::BadAnswer { url, what: "commit", value: info.sha });
    }
    Ok(info)
}

pub(super) fn refused(hub: &Hub, id: &str, revision: &str, url: &str, status: u16) -> HubError {
    match status {
        401 | 403 => HubError::Denied { id: id.to_owned(), status, with_token: hub.token.is_some() },
        404 => HubError::NotFound {
            endpoint: hub.endpoint.clone(),
            id: id.to_owned(),
            revision: revision.to_owned(),
        },
        _ => HubError::Status { url: url.to_owned(), status },
    }
}

/// The small files of a repository that a model needs, and whether its weights are sharded.
fn plan(id: &str, revision: &str, info: &RepoInfo) -> Result<(Vec<&'static str>, bool), HubError> {
    let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
    let lacks = |file: &str| HubError::NotInRepo {
        id: id.to_owned(),
        revision: revision.to_owned(),
        file: file.to_owned(),
    };
    if let Some(file) = [files::CONFIG, files::TOKENIZER].into_iter().find(|file| !has(file)) {
        return Err(lacks(file));
    }
    let sharded = !has(WEIGHTS);
    if sharded && !has(INDEX) {
        let pickle = info.siblings.iter().map(|file| &file.rfilename).find(|name| is_pickle(name));
        return Err(match pickle {
            Some(file) => HubError::Pickle { id: id.to_owned(), file: file.clone() },
            None => lacks(WEIGHTS),
        });
    }
    let optional = files::OPTIONAL.into_iter().filter(|name| has(name));
    Ok(([files::CONFIG, files::TOKENIZER].into_iter().chain(optional).collect(), sharded))
}

fn is_pickle(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(extension, "bin" | "pt" | "pth" | "ckpt" | "pkl")
}

impl Fetcher<'_> {
    /// Brings every file that `snapshot` lacks: the small ones first, the index before its shards.
    fn all(&self, info: &RepoInfo, snapshot: &Path, progress: &mut dyn Progress) -> Result<(), HubError> {
        let (small, sharded) = plan(self.id, self.revision, info)?;
        let mut names: Vec<String> = small.into_iter().map(str::to_owned).collect();
        if sharded {
            let start = FileStart { name: INDEX, number: 1, of: 1, bytes: 0 };
            self.one(start, snapshot, &mut ())?;
            let shards = shard_names(&snapshot.join(INDEX))?;
            if let Some(file) =
                shards.iter().find(|name| !info.siblings.iter().any(|s| s.rfilename == **name))
            {
                return Err(HubError::NotInRepo {
                    id: self.id.to_owned(),
                    revision: self.revision.to_owned(),
                    file: file.clone(),
                });
            }
            names.extend(shards);
        } else {
            names.push(WEIGHTS.to_owned());
        }
        names.retain(|name| !has_file(snapshot, name));
        for (i, name) in names.iter().enumerate() {
            self.one(FileStart { name, number: i + 1, of: names.len(), bytes: 0 }, snapshot, progress)?;
        }
        Ok(())
    }
}

fn write_reference(path: &Path, commit: &str) -> Result<(), HubError> {
    make_parent(path)?;
    let temporary = path.with_file_name(format!(".{}.tmp", std::process::id()));
    fs::write(&temporary, commit).map_err(HubError::io(&temporary))?;
    fs::rename(&temporary, path).map_err(HubError::io(path))
}
