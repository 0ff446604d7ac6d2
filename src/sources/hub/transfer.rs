//! One file from the hub into the cache: staged, checked, renamed, linked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{HeaderMap, Response, header};

use super::client::Client;
use super::download::refused;
use super::{FileStart, Hub, HubError, Progress, cache, has_file};
use crate::results::hash::sha256_file;

/// Tries per file. A broken connection goes on from the bytes that are there.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes below which a connection that drips has stalled, in [`Hub::patience`].
const DRIP: u64 = 1024;

/// Brings single files of one repository at one commit into the cache.
pub(super) struct Fetcher<'a> {
    pub(super) hub: &'a Hub,
    pub(super) client: &'a Client<'a>,
    pub(super) id: &'a str,
    pub(super) revision: &'a str,
    pub(super) commit: &'a str,
    pub(super) repo: &'a Path,
    pub(super) staging: &'a Path,
}

/// What the hub says of a file.
struct Announced {
    /// The blob's name: of large files their SHA-256, of small ones a git hash.
    etag: String,
    bytes: u64,
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
        let url =
            format!("{}/{}/resolve/{}/{}", self.hub.endpoint, self.id, self.commit, encoded(start.name));
        let announced = self.announced(&url)?;
        let blob = self.repo.join("blobs").join(&announced.etag);
        if !fs::metadata(&blob).is_ok_and(|found| found.len() == announced.bytes) {
            let staged =
                self.download(FileStart { bytes: announced.bytes, ..start }, &url, &announced, progress)?;
            check_hash(&staged, start.name, &announced.etag)?;
            make_parent(&blob)?;
            fs::rename(&staged, &blob).map_err(HubError::io(&blob))?;
        }
        link(&announced.etag, &blob, &snapshot.join(start.name))
    }

    /// Asks what a file is. Of a large one the answer is a redirect to where it is stored, with what the hub knows of
    /// it.
    fn announced(&self, url: &str) -> Result<Announced, HubError> {
        let answer = self.client.head(url)?;
        let status = answer.status();
        if !(status.is_success() || status.is_redirection()) {
            return Err(refused(self.hub, self.id, self.revision, url, status.as_u16()));
        }
        let headers = answer.headers();
        let first = |names: &[&str]| names.iter().find_map(|name| text(headers, name)).unwrap_or_default();
        let bad =
            |what, value: &str| HubError::BadAnswer { url: url.to_owned(), what, value: value.to_owned() };
        let commit = first(&["x-repo-commit"]);
        if !cache::is_commit(commit) {
            return Err(bad("commit", commit));
        }
        let etag = first(&["x-linked-etag", "etag"]);
        let length = if status.is_success() {
            first(&["x-linked-size", "content-length"])
        } else {
            first(&["x-linked-size"])
        };
        Ok(Announced {
            etag: clean_etag(etag).ok_or_else(|| bad("etag", etag))?,
            bytes: length.parse().map_err(|_| bad("size", length))?,
        })
    }

    /// Downloads into the staging folder, from where the last try stopped.
    fn download(
        &self,
        start: FileStart<'_>,
        url: &str,
        announced: &Announced,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let path = self.staging.join(format!("{}.part", announced.etag));
        make_parent(&path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(HubError::io(&path))?;
        let mut part = Part { file, path: &path, bytes: 0, of: start };
        part.bytes = part.file.metadata().map_err(HubError::io(&path))?.len();
        if part.bytes > start.bytes {
            part.empty()?;
        }
        if part.bytes < start.bytes {
            let answer = self.client.get(url, part.bytes)?;
            let status = answer.status().as_u16();
            if status != 200 && status != 206 {
                part.empty()?; // a range that is refused is not asked for again
                return Err(refused(self.hub, self.id, self.revision, url, status));
            }
            if status == 200 {
                part.empty()?; // the whole file, whatever was asked for
            }
            part.check_length(status, answer.headers())?;
            progress.start(start);
            progress.advance(part.bytes);
            part.fill(url, answer, self.hub.patience, progress)?;
        }
        progress.finish();
        Ok(path)
    }
}

/// A file on its way.
struct Part<'a> {
    file: File,
    path: &'a Path,
    /// Bytes on disk.
    bytes: u64,
    /// What it becomes.
    of: FileStart<'a>,
}

impl Part<'_> {
    fn empty(&mut self) -> Result<(), HubError> {
        self.bytes = 0;
        self.file.set_len(0).map_err(HubError::io(self.path))
    }

    /// Refuses an answer that announces another length than the hub did, before a byte of it is taken.
    fn check_length(&mut self, status: u16, headers: &HeaderMap) -> Result<(), HubError> {
        let whole = match status {
            206 => {
                text(headers, "content-range").and_then(|range| range.rsplit_once('/')).map(|(_, all)| all)
            }
            _ => text(headers, "content-length"),
        };
        match whole.and_then(|whole| whole.parse::<u64>().ok()).filter(|got| *got != self.of.bytes) {
            None => Ok(()),
            Some(got) => Err(self.wrong_size(got)),
        }
    }

    fn wrong_size(&mut self, got: u64) -> HubError {
        let (file, expected) = (self.of.name.to_owned(), self.of.bytes);
        self.empty().err().unwrap_or(HubError::WrongSize { file, expected, got })
    }

    /// Takes the body, not a byte more than was announced and not slower than a drip.
    fn fill(
        &mut self,
        url: &str,
        answer: Response<Body>,
        patience: Duration,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let broken = |reason: String| HubError::Network { url: url.to_owned(), reason };
        let framed = answer.headers().contains_key(header::CONTENT_LENGTH);
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let (mut since, mut before) = (Instant::now(), self.bytes);
        while self.bytes < self.of.bytes {
            let n = body.read(&mut buffer).map_err(|e| broken(e.to_string()))?;
            if n == 0 {
                return Err(broken(format!(
                    "the connection ended after {} of {} bytes",
                    self.bytes, self.of.bytes
                )));
            }
            if self.bytes + n as u64 > self.of.bytes {
                return Err(self.wrong_size(self.bytes + n as u64));
            }
            self.file.write_all(&buffer[..n]).map_err(HubError::io(self.path))?;
            self.bytes += n as u64;
            progress.advance(n as u64);
            if since.elapsed() >= patience {
                if self.bytes - before < DRIP {
                    return Err(broken(format!(
                        "the connection stalled after {} of {} bytes",
                        self.bytes, self.of.bytes
                    )));
                }
                (since, before) = (Instant::now(), self.bytes);
            }
        }
        // Without an announced length only another read tells that nothing follows.
        match if framed { 0 } else { body.read(&mut buffer).unwrap_or(0) } {
            0 => Ok(()),
            more => Err(self.wrong_size(self.bytes + more as u64)),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A file's name in an address.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What another try may help: a connection that broke, a server that is busy. Not a body of the wrong length.
fn worth_retrying(error: &HubError) -> bool {
    match error {
        HubError::Network { .. } => true,
        HubError::Status { status, .. } => matches!(status, 416 | 429) || *status >= 500,
        _ => false,
    }
}

/// The blob's name. It comes from the server: it must not lead out of the folder.
fn clean_etag(etag: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    (!name.is_empty() && name.len() <= 200 && name.chars().all(plain)).then(|| name.to_owned())
}

/// Large files have their SHA-256 as etag; small ones a git hash, which only their size stands for here.
fn check_hash(staged: &Path, name: &str, etag: &str) -> Result<(), HubError> {
    if etag.len() != 64 || !etag.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let got = sha256_file(staged, &|_| ()).map_err(HubError::io(staged))?;
    if got.eq_ignore_ascii_case(etag) {
        return Ok(());
    }
    fs::remove_file(staged).map_err(HubError::io(staged))?;
    Err(HubError::WrongHash { file: name.to_owned(), expected: etag.to_owned(), got })
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
