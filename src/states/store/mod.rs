//! The activation store: what a hooked run saw, as files that polars, pyarrow, duckdb, numpy and torch open.
//!
//! ```text
//! EXPORT/manifest.json                               who made it, from what; status running or complete
//! EXPORT/tokens/shard=0.parquet                      row_id, doc_id, pos, token_id, token
//! EXPORT/acts/hook=resid_pre/layer=3/shard=0.parquet row_id, doc_id, pos, token_id, act[d]   (or .arrow, .npy, .safetensors)
//! EXPORT/shards/0.done                               written last: sizes and checksums of the shard's files
//! ```
//! The manifest of a complete export lists the markers with their checksums, and each marker its shard's files.
//! Shard K holds the rows `K * shard_rows ..`, rows ordered by (`doc_id`, `pos`). Writing: [`StoreWriter`] and
//! [`ShardBuffer`]; reading: [`ActivationStore`]; before anything runs: [`Plan`] and [`choose_shard_rows`].

mod error;
mod format;
mod marker;
mod plan;
mod positions;
mod read;
mod row_file;
mod row_ids;
mod schema;
mod shard;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StoreError;
pub use marker::{FileRecord, ShardMarker, intact_shards, whole_shards};
pub use plan::{Plan, choose_shard_rows, free_space};
pub use positions::{Positions, PositionsError};
pub use read::{ActivationStore, Part, Shard};
pub use row_file::RowFile;
pub use row_ids::RowIds;
pub use schema::{ActDtype, Column, Format, Layout};
pub use shard::{ShardBuffer, ShardTarget};
pub use writer::{StoreClaim, StoreWriter};

/// Header of a `NumPy` file of f32 `[rows, width]`; the numbers follow, little-endian.
pub(crate) fn npy_header(rows: usize, width: usize) -> Vec<u8> {
    format::npy::header(rows, width, ActDtype::F32)
}
