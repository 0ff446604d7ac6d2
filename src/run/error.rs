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
        /// Why.
        reason: String,
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
        /// Why.
        reason: String,
    },
}

impl RunError {
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
