//! One file from the hub into the cache: staged, checked, renamed, linked.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};

use super::download::refused;
use super::{FileStart, Hub, HubError, Progress, cache, has_file};
use crate::hash::sha256_file;

/// Tries per file. A broken connection goes on from the bytes that are there.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Brings single files of one repository at one commit into the cache.
pub(super) struct Fetcher<'a> {
    pub(super) hub: &'a Hub,
    pub(super) id: &'a str,
    pub(super) revision: &'a str,
    pub(super) repo: &'a Path,
    pub(super) staging: &'a Path,
    pub(super) api: Api,
    pub(super) remote: ApiRepo,
}

impl Fetcher<'_> {
    /// Brings one file into the cache, with a few tries.
    pub(super) fn one(
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
        let hash = if is_sha256 {
            sha256_file(staged, &|_| ()).map_err(HubError::io(staged))?
        } else {
            etag.to_owned()
        };
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

pub(super) fn make_parent(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), |dir| fs::create_dir_all(dir).map_err(HubError::io(dir)))
}

pub(super) fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
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
