//! One column of an export as plain rows on disk, for reading in any order.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{ActivationStore, StoreError};
use crate::results::run::RunError;

/// Rows of f32 in a file without a name: whatever happens, nothing of it stays behind.
///
/// Shards are compressed and must be read whole; a fit takes windows in random order. So a column is unpacked once,
/// shard by shard, its checksums verified on the way. Disk: 4 bytes per number; memory: one shard.
#[derive(Debug)]
pub struct RowFile {
    file: File,
    /// For messages.
    folder: PathBuf,
    width: usize,
    rows: u64,
}

impl RowFile {
    /// Unpacks the column `hook`, `layer` of `store` into a file on the disk of `folder`. `done` hears of rows written.
    ///
    /// # Errors
    /// [`StoreError::NoColumn`]; [`StoreError::Corrupt`] naming a shard's file; [`StoreError::Run`] when the disk is
    /// full.
    pub fn unpack(
        store: &ActivationStore,
        hook: &str,
        layer: u32,
        folder: &Path,
        mut done: impl FnMut(u64),
    ) -> Result<Self, StoreError> {
        let io = |e| RunError::io("unpack activations in", folder, e);
        let mut file = BufWriter::new(tempfile::tempfile_in(folder).map_err(io)?);
        let (mut width, mut rows) = (0, 0);
        for shard in store.shards(hook, layer)? {
            let shard = shard?;
            width = shard.act.ncols();
            rows += shard.act.nrows() as u64;
            for row in shard.act.rows() {
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(io)?;
            }
            done(shard.act.nrows() as u64);
        }
        let file = file.into_inner().map_err(|e| io(e.into_error()))?;
        Ok(Self { file, folder: folder.into(), width, rows })
    }

    /// Numbers per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds the rows `range` to `out`, row by row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there are not so many rows; [`StoreError::Run`] when the disk fails.
    pub fn read(&self, range: Range<u64>, out: &mut Vec<f32>) -> Result<(), StoreError> {
        if range.end > self.rows {
            let reason = format!("row {} of {}", range.end, self.rows);
            return Err(StoreError::corrupt(&self.folder, reason));
        }
        let row = 4 * self.width as u64;
        let mut bytes = vec![0; ((range.end - range.start) * row) as usize];
        let read = self.file.read_exact_at(&mut bytes, range.start * row);
        read.map_err(|e| RunError::io("read activations in", &self.folder, e))?;
        out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        Ok(())
    }
}
