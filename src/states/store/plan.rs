//! Disk and memory of an export before anything runs.

use std::path::Path;

use super::{Layout, StoreError};
use crate::results::run::RunError;
use crate::states::store::{ActDtype, Column, Format};

/// Bytes of ids per row of one table: `row_id`, `doc_id`, `pos`, `token_id`.
const ID_BYTES: u64 = 24;
/// Ids and text of a token in the token table, generously.
const TOKEN_BYTES: u64 = ID_BYTES + 16;
/// Headers and footers of one file, generously.
const FILE_BYTES: u64 = 8 << 10;
/// A compressed export may come out well below its raw size, but hardly below this share.
const COMPRESSED_SHARE: f64 = 0.4;

/// What an export will need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Rows of the export.
    pub rows: u64,
    /// Shards.
    pub shards: u64,
    /// Bytes on disk without compression: an upper bound.
    pub disk_bytes: u64,
    /// Bytes of the shard buffer.
    pub buffer_bytes: u64,
}

impl Plan {
    /// The needs of `rows` rows in this layout.
    pub fn new(layout: &Layout, rows: u64) -> Self {
        let shards = rows.div_ceil(layout.shard_rows.max(1));
        let row = row_bytes(&layout.columns, layout.dtype);
        let n_columns = layout.columns.len() as u64;
        let ids = if layout.format == Format::Npy { TOKEN_BYTES } else { TOKEN_BYTES + ID_BYTES * n_columns };
        let disk_bytes = rows
            .saturating_mul(row.saturating_add(ids))
            .saturating_add((shards * (n_columns + 2)).saturating_mul(FILE_BYTES));
        let buffered = layout.shard_rows.min(rows);
        Self { rows, shards, disk_bytes, buffer_bytes: buffered.saturating_mul(row + ID_BYTES + n_columns) }
    }

    /// Compares the need with what the file system of `dir` (or of its nearest existing parent) has left.
    /// `Ok(Some(line))` is a warning: the export fits only if it compresses.
    ///
    /// # Errors
    /// [`StoreError::WillNotFit`] if it cannot fit, even compressed where the format compresses.
    pub fn check_disk(&self, dir: &Path, format: Format) -> Result<Option<String>, StoreError> {
        self.check_free(dir, format, free_space(dir)?)
    }

    fn check_free(&self, dir: &Path, format: Format, free: u64) -> Result<Option<String>, StoreError> {
        let least = if format == Format::Parquet {
            self.disk_bytes as f64 * COMPRESSED_SHARE
        } else {
            self.disk_bytes as f64
        };
        let (needs_mb, free_mb) = (self.disk_bytes.div_ceil(1_000_000), free / 1_000_000);
        if least > free as f64 {
            return Err(StoreError::WillNotFit { path: dir.into(), needs_mb, free_mb });
        }
        Ok((self.disk_bytes > free).then(|| {
            format!(
                "{} has {free_mb} MB free, the export is {needs_mb} MB before compression and may not fit",
                dir.display()
            )
        }))
    }
}

/// Rows per shard so that one shard's buffer takes about `budget_bytes`: at least 1, at most what fits an Arrow list
/// (2^31 numbers per column), a multiple of 256 where it can be. Depends on nothing else, so shards do not change with
/// threads.
pub fn choose_shard_rows(columns: &[Column], dtype: ActDtype, budget_bytes: u64) -> u64 {
    let rows = budget_bytes / (row_bytes(columns, dtype) + ID_BYTES + columns.len() as u64);
    let widest = columns.iter().map(|c| c.width as u64).max().unwrap_or(1).max(1);
    let rows = rows.clamp(1, (i32::MAX as u64 / widest).max(1));
    if rows >= 256 { rows / 256 * 256 } else { rows }
}

/// Bytes free for this user on the file system of `dir`, or of its nearest existing parent.
///
/// # Errors
/// [`RunError::Io`] naming the folder.
pub fn free_space(dir: &Path) -> Result<u64, StoreError> {
    let absolute = std::path::absolute(dir).map_err(|e| RunError::io("look at", dir, e))?;
    let existing = absolute.ancestors().find(|a| a.exists()).unwrap_or(Path::new("/"));
    Ok(fs4::available_space(existing).map_err(|e| RunError::io("look at", existing, e))?)
}

fn row_bytes(columns: &[Column], dtype: ActDtype) -> u64 {
    columns.iter().map(|c| (c.width * dtype.size()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: Format, shard_rows: u64) -> Layout {
        let column = |layer| Column { hook: "resid_pre".into(), point: String::new(), layer, width: 100 };
        Layout {
            columns: (0..3).map(column).collect(),
            dtype: ActDtype::F16,
            format,
            shard_rows,
            planned_rows: None,
        }
    }

    #[test]
    fn by_hand() {
        let plan = Plan::new(&layout(Format::Parquet, 1000), 2500);
        assert_eq!((plan.shards, plan.buffer_bytes), (3, 1000 * (600 + 24 + 3)));
        assert_eq!(plan.disk_bytes, 2500 * (600 + 40 + 72) + 15 * 8192);
        assert_eq!(Plan::new(&layout(Format::Npy, 1000), 2500).disk_bytes, 2500 * 640 + 15 * 8192);
        assert_eq!(Plan::new(&layout(Format::Npy, 1000), 0).disk_bytes, 0);
        assert!(Plan::new(&layout(Format::Npy, 1000), u64::MAX).disk_bytes == u64::MAX);
    }

    #[test]
    fn raw_formats_must_fit_and_parquet_may_hope() {
        let plan = Plan::new(&layout(Format::Parquet, 1000), 2500);
        let dir = Path::new("out");
        assert!(plan.check_free(dir, Format::Parquet, plan.disk_bytes).unwrap().is_none());
        assert!(
            plan.check_free(dir, Format::Parquet, plan.disk_bytes / 2)
                .unwrap()
                .unwrap()
                .contains("may not fit")
        );
        for (format, free) in [(Format::Parquet, plan.disk_bytes / 3), (Format::Arrow, plan.disk_bytes - 1)] {
            let message = plan.check_free(dir, format, free).unwrap_err().to_string();
            assert!(
                message.starts_with("out has 0 MB free, the export needs 2 MB")
                    || message.contains("1 MB free"),
                "{message}"
            );
        }
        assert!(free_space(Path::new("no/such/folder/yet")).unwrap() > 0);
    }

    #[test]
    fn shard_rows_follow_the_budget() {
        let columns = layout(Format::Parquet, 1).columns;
        assert_eq!(choose_shard_rows(&columns, ActDtype::F16, 627 * 1000), 768);
        assert_eq!(choose_shard_rows(&columns, ActDtype::F16, 627 * 100), 100);
        assert_eq!(choose_shard_rows(&columns, ActDtype::F16, 0), 1);
        let most = choose_shard_rows(&columns, ActDtype::F16, u64::MAX) * 100;
        assert!(i32::try_from(most).unwrap() > 0);
    }
}
