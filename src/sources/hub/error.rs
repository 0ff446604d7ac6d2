//! What can go wrong on the way to a model, one line each.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be found, read or downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The cache's note of a revision cannot be written.
    #[error(transparent)]
    Cache(crate::results::run::RunError),
    /// The name looks like a path, and nothing is there.
    #[error("no such folder: {}{hint}", path.display())]
    NoFolder {
        /// The path as given, with `~` expanded.
        path: PathBuf,
        /// Empty, or `; did you mean …?`
        hint: String,
    },
    /// The path is a file.
    #[error("{} is not a folder: give the folder that holds config.json", path.display())]
    NotAFolder {
        /// The path as given, with `~` expanded.
        path: PathBuf,
    },
    /// A model folder lacks a file.
    #[error("{} holds no {file}", path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        file: String,
    },
    /// A revision was given with a local folder.
    #[error("{} is a local folder, which has no revision {revision:?}", path.display())]
    LocalRevision {
        /// The folder.
        path: PathBuf,
        /// The revision given.
        revision: String,
    },
    /// Neither a folder nor a name that the hub allows.
    #[error("no such folder, and no hub id either: {id:?} ({why})")]
    BadId {
        /// The name as given.
        id: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A revision that could not be a branch, a tag or a commit.
    #[error("not a branch, tag or commit: {revision:?}")]
    BadRevision {
        /// The revision as given.
        revision: String,
    },
    /// `name@a` together with revision `b`.
    #[error("two revisions given: {in_name:?} in the name and {option:?} as an option")]
    TwoRevisions {
        /// The part after `@`.
        in_name: String,
        /// The option's value.
        option: String,
    },
    /// No variable says where the cache is.
    #[error("no Hugging Face cache: set HF_HOME, HF_HUB_CACHE or HOME")]
    NoCache,
    /// The network is forbidden and the cache does not hold the model.
    #[error("{id} ({revision}) is not whole in {} (it lacks {missing}), and HF_HUB_OFFLINE forbids the network", cache.display())]
    Offline {
        /// The hub id.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
        /// The first thing that is missing.
        missing: String,
    },
    /// HTTP 401 or 403.
    #[error("{id}: no access (http {status}): gated, private or misspelt{}", .token.hint())]
    Denied {
        /// The hub id.
        id: String,
        /// 401 or 403.
        status: u16,
        /// What became of the access token.
        token: Token,
    },
    /// HTTP 404.
    #[error("no such model or revision on {endpoint}: {id} ({revision})")]
    NotFound {
        /// The hub's address.
        endpoint: String,
        /// The hub id.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// Any other HTTP status.
    #[error("{url}: http status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// More redirects than any hub needs.
    #[error("{url}: more than {most} redirects")]
    Redirects {
        /// What was asked for.
        url: String,
        /// How many are followed.
        most: usize,
    },
    /// The access token holds characters that no header can carry.
    #[error("the token of HF_TOKEN (or of the token file) holds characters that no token has")]
    BadToken,
    /// No answer, or none that could be read.
    #[error("cannot read {url}: {reason}")]
    Network {
        /// What was asked for.
        url: String,
        /// The transport's own words.
        reason: String,
    },
    /// The repository has weights as pickles only.
    #[error("{id} has its weights only as a pickle ({file}) of no known layout: convert it to safetensors")]
    Pickle {
        /// The hub id.
        id: String,
        /// The pickle's name.
        file: String,
    },
    /// The repository lacks a file that every model needs.
    #[error("{id} ({revision}) has no {file} on the hub")]
    NotInRepo {
        /// The hub id.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
    },
    /// The shard index is no index, or names a file outside the model's folder.
    #[error(transparent)]
    Weights(#[from] crate::model::ModelError),
    /// The hub's answer cannot be used.
    #[error("{url}: the hub sent an unusable {what}: {value:?}")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// The header or field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The download has the wrong length.
    #[error("{file}: downloaded {got} bytes, the hub announced {expected}")]
    WrongSize {
        /// The file.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes on disk.
        got: u64,
    },
    /// The download has the wrong SHA-256.
    #[error("{file}: downloaded data has sha256 {got}, the hub announced {expected}")]
    WrongHash {
        /// The file.
        file: String,
        /// SHA-256 announced, in hex.
        expected: String,
        /// SHA-256 found, in hex.
        got: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl HubError {
    /// Whether what was asked for is wrong: no such folder or model, no name or revision at all. The rest went wrong on
    /// the way.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::Status { .. }
            | Self::Redirects { .. }
            | Self::Network { .. }
            | Self::Weights(_)
            | Self::BadAnswer { .. }
            | Self::WrongSize { .. }
            | Self::WrongHash { .. } => false,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => true,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// What became of the access token in a request that was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// There was none.
    None,
    /// It was sent.
    Sent,
    /// It was kept back, since the hub's address is plain http.
    Withheld,
}

impl Token {
    fn hint(self) -> &'static str {
        match self {
            Self::None => "; set HF_TOKEN",
            Self::Sent => "; the token has no right to it",
            Self::Withheld => "; HF_TOKEN is never sent over plain http: give HF_ENDPOINT as https",
        }
    }
}
