//! Writing an export: take hold of the folder, learn which shards are there, write the others, declare it complete.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::marker::{finished_shards, owned_shard};
use super::{Layout, ShardBuffer, ShardMarker, ShardTarget, StoreError};
use crate::run::{Counts, Found, Manifest, RunDir};

/// An export being written. Shards may be written in any order, and by other threads through [`StoreWriter::target`].
#[derive(Debug)]
pub struct StoreWriter {
    run: RunDir,
    target: ShardTarget,
    done: BTreeMap<u64, ShardMarker>,
}

impl StoreWriter {
    /// Takes hold of `dir` for the job that `manifest` and `layout` describe; leftovers of a killed run are removed, its whole
    /// shards kept. With `force`, another job's files are deleted first.
    ///
    /// # Errors
    /// [`StoreError::BadColumns`], or a [`StoreError::Run`]: foreign folder, other job, locked, disk.
    pub fn start(
        dir: &Path,
        mut manifest: Manifest,
        layout: Layout,
        force: bool,
    ) -> Result<Self, StoreError> {
        layout.check()?;
        manifest.layout = Some(serde_json::to_value(&layout).map_err(|e| StoreError::encode(dir, e))?);
        let mut run = RunDir::start(dir, manifest, force, &|path| owned_shard(path).is_some())?;
        let manifest = run.manifest();
        let job = manifest.job.clone();
        let model_sha256 = manifest.model.as_ref().map_or(String::new(), |m| m.sha256.clone());
        let done = finished_shards(dir, &job, &layout)?;
        if run.found() == Found::Complete {
            let rows = Manifest::read(dir)?.map_or(0, |m| m.counts.rows);
            if !covers(&done, rows, layout.shard_rows) {
                run.reopen()?;
            }
        }
        let target = ShardTarget { dir: dir.into(), layout, job, model_sha256 };
        Ok(Self { run, target, done })
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
