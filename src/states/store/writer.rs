//! Writing an export: take hold of the folder, learn which shards are there, write the others, declare it complete.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::marker::{intact_shards, keep_only, owned_shard};
use super::{Layout, ShardBuffer, ShardMarker, ShardTarget, StoreError};
use crate::results::run::{Claim, Counts, Found, Manifest, RunDir};

/// A folder that is locked for an export, in which nothing was changed yet. Dropped, it leaves the folder as it was.
#[derive(Debug)]
pub struct StoreClaim {
    claim: Claim,
    layout: Layout,
    /// Every file of these was compared with its checksum.
    whole: BTreeMap<u64, ShardMarker>,
}

impl StoreClaim {
    /// Whether the same job is complete, all files in place: nothing to do.
    pub fn is_complete(&self) -> bool {
        self.claim.found() == Found::Complete
    }

    /// The run as it was claimed.
    pub fn run(&self) -> &Claim {
        &self.claim
    }

    /// Removes leftovers of a killed run and keeps its whole shards; deletes another job's files.
    ///
    /// # Errors
    /// A [`StoreError::Run`]: a failed file operation.
    pub fn begin(self) -> Result<StoreWriter, StoreError> {
        let Self { claim, layout, whole: done } = self;
        let mut run = claim.begin(&|path| owned_shard(path).is_some())?;
        run.list_only(&ShardMarker::is_at);
        let dir = run.path().to_owned();
        let job = run.manifest().job.clone();
        let model_sha256 = run.manifest().model.as_ref().map_or(String::new(), |m| m.sha256.clone());
        keep_only(&dir, &done)?;
        let target = ShardTarget { dir, layout, job, model_sha256 };
        Ok(StoreWriter { run, target, done })
    }
}

/// An export being written. Shards may be written in any order, and by other threads through [`StoreWriter::target`].
#[derive(Debug)]
pub struct StoreWriter {
    run: RunDir,
    target: ShardTarget,
    done: BTreeMap<u64, ShardMarker>,
}

impl StoreWriter {
    /// Takes hold of `dir` for the job that `manifest` and `layout` describe. With `force` it may hold another job.
    ///
    /// # Errors
    /// [`StoreError::BadColumns`], or a [`StoreError::Run`]: foreign folder, other job, locked, disk.
    pub fn claim(
        dir: &Path,
        mut manifest: Manifest,
        layout: Layout,
        force: bool,
    ) -> Result<StoreClaim, StoreError> {
        layout.check()?;
        manifest.layout = Some(serde_json::to_value(&layout).map_err(|e| StoreError::encode(dir, e))?);
        let mut claim = RunDir::claim(dir, manifest, force)?;
        let whole = match claim.found() {
            Found::Nothing => BTreeMap::new(),
            _ => intact_shards(dir, &claim.manifest().job, &layout)?,
        };
        if claim.found() == Found::Complete {
            let rows = Manifest::read(dir)?.map_or(0, |m| m.counts.rows);
            if !covers(&whole, rows, layout.shard_rows) {
                claim.not_whole()?;
            }
        }
        Ok(StoreClaim { claim, layout, whole })
    }

    /// [`StoreWriter::claim`], then [`StoreClaim::begin`].
    ///
    /// # Errors
    /// Those of both.
    pub fn start(dir: &Path, manifest: Manifest, layout: Layout, force: bool) -> Result<Self, StoreError> {
        Self::claim(dir, manifest, layout, force)?.begin()
    }

    /// Whether the same job is complete, all files in place: nothing to do.
    pub fn is_complete(&self) -> bool {
        self.run.found() == Found::Complete
    }

    /// Whether shard `shard` is whole and need not be computed.
    pub fn is_done(&self, shard: u64) -> bool {
        self.done.contains_key(&shard)
    }

    /// The whole shards so far.
    pub fn done(&self) -> &BTreeMap<u64, ShardMarker> {
        &self.done
    }

    /// What [`ShardBuffer::finish`] needs.
    pub fn target(&self) -> &ShardTarget {
        &self.target
    }

    /// A buffer for one shard.
    pub fn buffer(&self) -> ShardBuffer {
        let layout = &self.target.layout;
        let rows = layout.planned_rows.map_or(layout.shard_rows, |planned| planned.min(layout.shard_rows));
        ShardBuffer::new(&layout.columns, layout.dtype, rows as usize)
    }

    /// Writes `buffer` as shard `shard` and clears it.
    ///
    /// # Errors
    /// As [`ShardBuffer::finish`].
    pub fn write(
        &mut self,
        shard: u64,
        buffer: &mut ShardBuffer,
        token_text: &(dyn Fn(u32) -> String + Sync),
    ) -> Result<(), StoreError> {
        let marker = buffer.finish(&self.target, shard, token_text)?;
        self.record(marker);
        buffer.clear();
        Ok(())
    }

    /// Takes note of a shard that another thread wrote.
    pub fn record(&mut self, marker: ShardMarker) {
        self.done.insert(marker.shard, marker);
    }

    /// Declares the export complete.
    ///
    /// # Errors
    /// [`StoreError::Unfinished`] unless the shards hold exactly `counts.rows` rows without a gap.
    pub fn finish(self, counts: Counts, parity: Option<Value>) -> Result<Manifest, StoreError> {
        let shard_rows = self.target.layout.shard_rows;
        if !covers(&self.done, counts.rows, shard_rows) {
            let planned = counts.rows.div_ceil(shard_rows).to_string();
            return Err(StoreError::Unfinished { path: self.target.dir, done: self.done.len(), planned });
        }
        Ok(self.run.finish(counts, parity)?)
    }
}

/// Whether the shards are 0, 1, 2 … with `rows` rows in all, each full but the last.
pub(crate) fn covers(done: &BTreeMap<u64, ShardMarker>, rows: u64, shard_rows: u64) -> bool {
    let expected =
        (0..rows.div_ceil(shard_rows)).map(|k| (k, k * shard_rows, shard_rows.min(rows - k * shard_rows)));
    done.values().map(|m| (m.shard, m.first_row_id, m.rows)).eq(expected)
}
