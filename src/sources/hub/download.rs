//! Downloads a model into the cache.
//!
//! Bytes go into a staging folder beside the cache's own: a file enters the cache by one rename, after its size (and
//! its SHA-256, where the hub tells it) has been checked, and the branch's reference is written last. So neither a kill
//! nor a broken server leaves something that passes as whole, and the next call goes on where this one stopped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::cache::{self, Found, Snapshot};
use super::client::{Client, is_private};
use super::error::Token;
use super::transfer::{Fetcher, ignore_missing};
use super::{FileStart, Hub, HubError, Progress, files, has_file};
use crate::model::{WEIGHTS, first_weights, is_index, shard_names};
use crate::results::run::{RunError, write_atomic};

/// A repository at a revision: its commit and its files.
#[derive(Debug, Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

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
    let client = Client::new(hub);
    let info = info(hub, &client, id, revision)?;
    let snapshot = Snapshot { path: repo.join("snapshots").join(&info.sha), commit: info.sha.clone() };
    // Pinned to the commit, so that a branch that moves meanwhile cannot mix two versions.
    let (client, commit, repo, staging) = (&client, info.sha.as_str(), &repo, &staging);
    let fetcher = Fetcher { hub, client, id, revision, commit, repo, staging };
    fetcher.all(&info, &snapshot.path, progress)?;
    if revision != snapshot.commit {
        write_reference(&repo.join("refs").join(revision), &snapshot.commit)?;
    }
    fs::remove_dir_all(staging).or_else(ignore_missing).map_err(HubError::io(staging))?;
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

/// Asks for the commit and the file list.
fn info(hub: &Hub, client: &Client<'_>, id: &str, revision: &str) -> Result<Info, HubError> {
    let url = format!("{}/api/models/{id}/revision/{}", hub.endpoint, revision.replace('/', "%2F"));
    let (status, answer) = client.read(&url)?;
    if status != 200 {
        return Err(refused(hub, id, revision, &url, status));
    }
    let unread = |error: serde_json::Error| HubError::Network { url: url.clone(), reason: error.to_string() };
    let info: Info = serde_json::from_slice(&answer).map_err(unread)?;
    if !cache::is_commit(&info.sha) {
        return Err(HubError::BadAnswer { url, what: "commit", value: info.sha });
    }
    Ok(info)
}

/// The error of a status that is no success.
pub(super) fn refused(hub: &Hub, id: &str, revision: &str, url: &str, status: u16) -> HubError {
    let token = match &hub.token {
        None => Token::None,
        Some(_) if url.parse().is_ok_and(|at| is_private(&at)) => Token::Sent,
        Some(_) => Token::Withheld,
    };
    match status {
        401 | 403 => HubError::Denied { id: id.to_owned(), status, token },
        404 => HubError::NotFound {
            endpoint: hub.endpoint.clone(),
            id: id.to_owned(),
            revision: revision.to_owned(),
        },
        _ => HubError::Status { url: url.to_owned(), status },
    }
}

/// The small files of a repository that a model needs, and its weights: a file, or the index of several.
fn plan(id: &str, revision: &str, info: &Info) -> Result<(Vec<&'static str>, String), HubError> {
    let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
    let lacks = |file: &str| HubError::NotInRepo {
        id: id.to_owned(),
        revision: revision.to_owned(),
        file: file.to_owned(),
    };
    if let Some(file) = [files::CONFIG, files::TOKENIZER].into_iter().find(|file| !has(file)) {
        return Err(lacks(file));
    }
    let weights = first_weights(has).ok_or_else(|| {
        let pickle = info.siblings.iter().map(|file| &file.rfilename).find(|name| is_pickle(name));
        match pickle {
            Some(file) => HubError::Pickle { id: id.to_owned(), file: file.clone() },
            None => lacks(WEIGHTS),
        }
    })?;
    let optional = files::OPTIONAL.into_iter().filter(|name| has(name));
    Ok(([files::CONFIG, files::TOKENIZER].into_iter().chain(optional).collect(), weights))
}

fn is_pickle(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(extension, "bin" | "pt" | "pth" | "ckpt" | "pkl")
}

impl Fetcher<'_> {
    /// Brings every file that `snapshot` lacks: the small ones first, the index before its shards.
    fn all(&self, info: &Info, snapshot: &Path, progress: &mut dyn Progress) -> Result<(), HubError> {
        let (small, weights) = plan(self.id, self.revision, info)?;
        let mut names: Vec<String> = small.into_iter().map(str::to_owned).collect();
        if is_index(&weights) {
            let start = FileStart { name: &weights, number: 1, of: 1, bytes: 0 };
            self.one(start, snapshot, &mut ())?;
            let shards = shard_names(&snapshot.join(&weights))?;
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
            names.push(weights);
        }
        names.retain(|name| !has_file(snapshot, name));
        for (i, name) in names.iter().enumerate() {
            self.one(FileStart { name, number: i + 1, of: names.len(), bytes: 0 }, snapshot, progress)?;
        }
        Ok(())
    }
}

fn write_reference(path: &Path, commit: &str) -> Result<(), HubError> {
    let written = write_atomic(path, |file| {
        file.write_all(commit.as_bytes()).map_err(|source| RunError::Io {
            op: "write",
            path: path.into(),
            source,
        })
    });
    written.map(drop).map_err(HubError::Cache)
}
