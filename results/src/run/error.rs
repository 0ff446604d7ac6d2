//! What can go wrong with a run directory.

use std::io;
use std::path::{Path, PathBuf};

/// A run directory could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The disk (or the quota) is full.
    #[error(
        "no space left on device while writing {} (needs about {needs_mb} MB, {free_mb} MB free)",
        path.display()
    )]
    NoSpace {
        /// The file being written.
        path: PathBuf,
        /// Its expected size (what was written so far where nothing better is known), in megabytes.
        needs_mb: u64,
        /// What the file system had left afterwards, in megabytes.
        free_mb: u64,
    },
    /// Any other failed file operation.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `write`, `rename` …
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The output folder holds something else.
    #[error(
        "{} is not empty and has no manifest.json of layerscope (found {found}); choose another folder",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The first foreign entry.
        found: String,
    },
    /// The folder holds the run of another job.
    #[error(
        "{} holds another job: {setting} was {old}, is now {new}{more}; choose another folder or start over with --force",
        path.display()
    )]
    DifferentJob {
        /// The folder.
        path: PathBuf,
        /// The first setting that differs, such as `dtype` or `config.hooks[0]`.
        setting: String,
        /// Its value in the folder's manifest.
        old: String,
        /// Its value in this command.
        new: String,
        /// Empty, or how many other settings differ.
        more: String,
    },
    /// A file of a complete run is not what the run wrote.
    #[error("{} is damaged: found {found}, expected {expected}; repeat the command that made it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is there: a size, or the start of a checksum.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The files of a run were asked for before it was complete.
    #[error("{} is unfinished; repeat the command that makes it", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The run was begun where other bytes are computed.
    #[error(
        "{} was begun with other arithmetic: {setting} was {old}, is now {new}, and the bytes of both would mix; go on as it \
         was begun, choose another folder or start over with --force",
        path.display()
    )]
    OtherCompute {
        /// The folder.
        path: PathBuf,
        /// The first setting that differs, such as `compute.instructions`.
        setting: String,
        /// Its value in the folder's manifest.
        old: String,
        /// Its value here.
        new: String,
    },
    /// The folder was removed or replaced while it was held.
    #[error("{} was removed or replaced by another program while this one was writing to it", path.display())]
    Replaced {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes here.
    #[error("another layerscope process is writing to {}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// `manifest.json` is not what this tool writes.
    #[error("cannot use {}: {reason}", path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in a line.
        reason: String,
    },
    /// A number of `metrics.parquet` has neither an interval nor a reason, or both.
    #[error("an interval with two ends or a reason is missing: {row}")]
    BadInterval {
        /// The row, in words.
        row: String,
    },
    /// A number of `metrics.parquet` is NaN or infinite.
    #[error("{what} is {value}: {row}")]
    BadMetric {
        /// The row, in words.
        row: String,
        /// `estimate`, `lower` or `upper`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
    },
    /// `metrics.parquet` cannot be encoded, or is not what this tool writes.
    #[error("cannot use {}: {reason}", path.display())]
    BadMetrics {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in a line.
        reason: String,
    },
}

impl RunError {
    /// What was found, without the advice.
    pub fn finding(&self) -> String {
        match self {
            Self::Damaged { path, found, expected } => {
                format!("{} is damaged: found {found}, expected {expected}", path.display())
            }
            Self::BadManifest { path, .. } => format!("{} is damaged", path.display()),
            other => other.to_string(),
        }
    }

    /// A file of which something else was found than expected.
    pub fn damaged(path: &Path, found: &str, expected: &str) -> Self {
        Self::Damaged { path: path.into(), found: found.into(), expected: expected.into() }
    }

    /// Names the operation and the path of a failed file operation.
    pub fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::sized_io(op, path, source, 0)
    }

    /// As [`RunError::io`]; a full disk is told with the size the file needs, in bytes.
    pub fn sized_io(op: &'static str, path: &Path, source: io::Error, needs: u64) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let free = fs4::available_space(folder).unwrap_or(0);
                Self::NoSpace {
                    path: path.into(),
                    needs_mb: needs.div_ceil(1_000_000),
                    free_mb: free / 1_000_000,
                }
            }
            _ => Self::Io { op, path: path.into(), source },
        }
    }
}
