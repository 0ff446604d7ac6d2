//! What can go wrong with an activation store.

use std::path::{Path, PathBuf};

use super::ActDtype;
use crate::results::run::RunError;

/// An activation store could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The run directory's own trouble: full disk, other job, damaged manifest.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model gave a NaN or an infinity.
    #[error("activation is {value} at hook {hook}, layer {layer}, document {doc_id}, position {pos}")]
    #[allow(missing_docs)]
    NotFinite { hook: String, layer: u32, doc_id: u64, pos: u32, value: f32 },
    /// A finite activation is too large for the number type of the export.
    #[error(
        "activation {value} does not fit {} (largest {}) at hook {hook}, layer {layer}, document {doc_id}, position {pos}; \
         export with --act-dtype f32",
        dtype.name(),
        dtype.largest()
    )]
    #[allow(missing_docs)]
    Overflow { hook: String, layer: u32, doc_id: u64, pos: u32, value: f32, dtype: ActDtype },
    /// Rows that do not fit the buffer, or values that are not whole rows.
    #[error(
        "cannot put {values} values at row {first_row} of {column}: width {width}, {rows} rows announced"
    )]
    #[allow(missing_docs)]
    BadPut { column: String, first_row: usize, values: usize, width: usize, rows: usize },
    /// More rows than the shard's capacity, or row ids of unequal lengths.
    #[error("{rows} rows do not fit a shard of {capacity} rows")]
    #[allow(missing_docs)]
    TooManyRows { rows: usize, capacity: usize },
    /// A shard may only be written when every column has every row.
    #[error("{column}: row {row} of shard {shard} was never written")]
    #[allow(missing_docs)]
    MissingRow { column: String, row: usize, shard: u64 },
    /// Two columns would be written to the same file, or a name cannot be a folder's.
    #[error("unusable columns: {reason}")]
    #[allow(missing_docs)]
    BadColumns { reason: String },
    /// A file is damaged, truncated, or not what the manifest promises.
    #[error("{} is damaged: {reason}", path.display())]
    #[allow(missing_docs)]
    Corrupt { path: PathBuf, reason: String },
    /// The file's format refused to be written.
    #[error("cannot write {}: {reason}", path.display())]
    #[allow(missing_docs)]
    Encode { path: PathBuf, reason: String },
    /// The folder holds no export.
    #[error("{} is not an activation export: {reason}", path.display())]
    #[allow(missing_docs)]
    NotAnExport { path: PathBuf, reason: String },
    /// The export was stopped, or is still being written.
    #[error("{} is unfinished: {done} of {planned} shards; repeat the export command to finish", path.display())]
    #[allow(missing_docs)]
    Unfinished { path: PathBuf, done: usize, planned: String },
    /// The export has no such column.
    #[error("no activations of hook {hook}, layer {layer} in {}; it has {available}", path.display())]
    #[allow(missing_docs)]
    NoColumn { path: PathBuf, hook: String, layer: u32, available: String },
    /// The export cannot fit the disk.
    #[error("{} has {free_mb} MB free, the export needs {needs_mb} MB; choose fewer hooks, layers or positions, or --act-dtype f16", path.display())]
    #[allow(missing_docs)]
    WillNotFit { path: PathBuf, needs_mb: u64, free_mb: u64 },
}

impl StoreError {
    #[expect(clippy::needless_pass_by_value, reason = "errors are passed on, texts made in place")]
    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Self {
        Self::Corrupt { path: path.into(), reason: reason.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as above")]
    pub(crate) fn encode(path: &Path, reason: impl ToString) -> Self {
        Self::Encode { path: path.into(), reason: reason.to_string() }
    }
}
