//! Downloads a model into the cache.
//!
//! `hf-hub` moves the bytes, into a staging folder beside the cache's own: a file enters the cache by one rename, after its
//! size (and its SHA-256, where the hub tells it) has been checked, and the branch's reference is written last. So neither
//! a kill nor a broken server leaves something that passes as whole, and the next call goes on where this one stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};

use super::cache::{self, Found, Snapshot};
use super::{FileStart, Hub, HubError, Progress, files, has_file, sha};

/// Tries per file. A broken connection goes on from the bytes that are there.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

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

fn refused(hub: &Hub, id: &str, revision: &str, url: &str, status: u16) -> HubError {
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
    let sharded = !has(files::WEIGHTS);
    if sharded && !has(files::INDEX) {
        let pickle = info.siblings.iter().map(|file| &file.rfilename).find(|name| is_pickle(name));
        return Err(match pickle {
            Some(file) => HubError::Pickle { id: id.to_owned(), file: file.clone() },
            None => lacks(files::WEIGHTS),
        });
    }
    let optional = files::OPTIONAL.into_iter().filter(|name| has(name));
    Ok(([files::CONFIG, files::TOKENIZER].into_iter().chain(optional).collect(), sharded))
}

fn is_pickle(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(extension, "bin" | "pt" | "pth" | "ckpt" | "pkl")
}

struct Fetcher<'a> {
    hub: &'a Hub,
    id: &'a str,
    revision: &'a str,
    repo: &'a Path,
    staging: &'a Path,
    api: Api,
    remote: ApiRepo,
}

impl Fetcher<'_> {
    /// Brings every file that `snapshot` lacks: the small ones first, the index before its shards.
    fn all(&self, info: &RepoInfo, snapshot: &Path, progress: &mut dyn Progress) -> Result<(), HubError> {
        let (small, sharded) = plan(self.id, self.revision, info)?;
        let mut names: Vec<String> = small.into_iter().map(str::to_owned).collect();
        if sharded {
            let start = FileStart { name: files::INDEX, number: 1, of: 1, bytes: 0 };
            self.one(start, snapshot, &mut ())?;
            let shards = files::shard_names(&snapshot.join(files::INDEX))?;
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
            names.push(files::WEIGHTS.to_owned());
        }
        names.retain(|name| !has_file(snapshot, name));
        for (i, name) in names.iter().enumerate() {
            self.one(FileStart { name, number: i + 1, of: names.len(), bytes: 0 }, snapshot, progress)?;
        }
        Ok(())
    }

    /// Brings one file into the cache, with a few tries.
    fn one(
        &self,
        start: FileStart<'_>,
        snapshot: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        if has_file(snapshot, start.name) {
            return Ok(());
        }
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.try_once(start, snapshot, progress) {
                Err(error) if worth_retrying(&error) => sleep(pause),
                done => return done,
            }
            pause *= 2;
        }
        self.try_once(start, snapshot, progress)
    }

    fn try_once(
        &self,
        start: FileStart<'_>,
        snapshot: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let url = self.remote.url(start.name);
        let meta = self.api.metadata(&url).map_err(|error| self.failed(&url, error))?;
        let etag = clean_etag(&url, &meta)?;
        let blob = self.repo.join("blobs").join(etag);
        if !fs::metadata(&blob).is_ok_and(|found| found.len() == meta.size() as u64) {
            let staged = self.download(start, &url, &meta, progress)?;
            check(&staged, start.name, etag, meta.size() as u64)?;
            make_parent(&blob)?;
            fs::rename(&staged, &blob).map_err(HubError::io(&blob))?;
        }
        link(etag, &blob, &snapshot.join(start.name))
    }

    /// Downloads into the staging folder, from where the last try stopped.
    fn download(
        &self,
        start: FileStart<'_>,
        url: &str,
        meta: &Metadata,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let repo = Repo::with_revision(self.id.to_owned(), RepoType::Model, meta.commit_hash().to_owned());
        let staged = Cache::new(self.staging.to_owned()).repo(repo);
        let part = staged.blob_path(meta.etag()).with_extension("part");
        if fs::metadata(&part).is_ok_and(|found| found.len() >= meta.size() as u64) {
            // Nothing is left to ask for, and hf-hub would ask: the server would refuse for ever.
            fs::remove_file(&part).map_err(HubError::io(&part))?;
        }
        let pointer = staged.pointer_path(meta.commit_hash()).join(start.name);
        fs::remove_file(&pointer).or_else(ignore_missing).map_err(HubError::io(&pointer))?;
        self.remote
            .download_with_progress(start.name, Relay { progress, file: start })
            .map_err(|error| self.failed(url, error))?;
        Ok(staged.blob_path(meta.etag()))
    }

    fn failed(&self, url: &str, error: ApiError) -> HubError {
        match error {
            ApiError::RequestError(cause) => match *cause {
                ureq::Error::StatusCode(status) => refused(self.hub, self.id, self.revision, url, status),
                other => HubError::Network { url: url.to_owned(), reason: other.to_string() },
            },
            ApiError::IoError(source) if is_disk(&source) => {
                HubError::Io { path: self.staging.to_owned(), source }
            }
            other => HubError::Network { url: url.to_owned(), reason: other.to_string() },
        }
    }
}

/// Reading the network and writing the disk fail with the same type; another try cannot help the disk.
fn is_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    let kinds = [
        Kind::StorageFull,
        Kind::QuotaExceeded,
        Kind::FileTooLarge,
        Kind::PermissionDenied,
        Kind::ReadOnlyFilesystem,
    ];
    kinds.contains(&error.kind())
}

fn worth_retrying(error: &HubError) -> bool {
    match error {
        HubError::Network { .. } | HubError::WrongSize { .. } => true,
        HubError::Status { status, .. } => *status == 429 || *status >= 500,
        _ => false,
    }
}

/// The blob's name. It comes from the server: it must not lead out of the folder.
fn clean_etag<'a>(url: &str, meta: &'a Metadata) -> Result<&'a str, HubError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let etag = meta.etag().strip_prefix("W/").unwrap_or(meta.etag());
    let commit = meta.commit_hash();
    if etag.is_empty() || etag.len() > 200 || !etag.chars().all(plain) {
        let value = meta.etag().to_owned();
        return Err(HubError::BadAnswer { url: url.to_owned(), what: "etag", value });
    }
    if !cache::is_commit(commit) {
        return Err(HubError::BadAnswer { url: url.to_owned(), what: "commit", value: commit.to_owned() });
    }
    Ok(etag)
}

/// Large files have their SHA-256 as etag; small ones a git hash, which only their size stands for here.
fn check(staged: &Path, name: &str, etag: &str, expected: u64) -> Result<(), HubError> {
    let got = fs::metadata(staged).map_err(HubError::io(staged))?.len();
    let wrong = if got == expected {
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit());
        let hash = if is_sha256 { sha::sha256(staged, &|_| ())? } else { etag.to_owned() };
        if hash.eq_ignore_ascii_case(etag) {
            return Ok(());
        }
        HubError::WrongHash { file: name.to_owned(), expected: etag.to_owned(), got: hash }
    } else {
        HubError::WrongSize { file: name.to_owned(), expected, got }
    };
    fs::remove_file(staged).map_err(HubError::io(staged))?;
    Err(wrong)
}

/// `snapshots/<commit>/name -> ../../blobs/<etag>`, as `huggingface_hub` links it.
#[cfg(unix)]
fn link(etag: &str, _blob: &Path, pointer: &Path) -> Result<(), HubError> {
    make_parent(pointer)?;
    fs::remove_file(pointer).or_else(ignore_missing).map_err(HubError::io(pointer))?;
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer).map_err(HubError::io(pointer))
}

/// Without links the file itself moves, as `huggingface_hub` does it.
#[cfg(not(unix))]
fn link(_etag: &str, blob: &Path, pointer: &Path) -> Result<(), HubError> {
    make_parent(pointer)?;
    fs::rename(blob, pointer).map_err(HubError::io(pointer))
}

fn write_reference(path: &Path, commit: &str) -> Result<(), HubError> {
    make_parent(path)?;
    let temporary = path.with_file_name(format!(".{}.tmp", std::process::id()));
    fs::write(&temporary, commit).map_err(HubError::io(&temporary))?;
    fs::rename(&temporary, path).map_err(HubError::io(path))
}

fn make_parent(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), |dir| fs::create_dir_all(dir).map_err(HubError::io(dir)))
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Hands hf-hub's progress on to ours.
struct Relay<'a> {
    progress: &'a mut dyn Progress,
    file: FileStart<'a>,
}

impl hf_hub::api::Progress for Relay<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.file.bytes = size as u64;
        self.progress.start(self.file);
    }

    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }

    fn finish(&mut self) {
        self.progress.finish();
    }
}
