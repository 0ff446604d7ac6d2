//! The rows of documents, into shards.

use crate::{
    job::{JobError, Watch},
    sources::text::Tokenizer,
    states::{
        foreign::{Document, Foreign, ForeignError},
        store::{ShardBuffer, StoreWriter},
    },
};

/// Writes every shard that is not whole yet.
pub(super) fn write(
    foreign: &dyn Foreign,
    tokenizer: &Tokenizer,
    writer: &mut StoreWriter,
    watch: &dyn Watch,
) -> Result<(), JobError> {
    let stage = watch.begin("importing", "tokens", Some(foreign.lengths().iter().sum::<usize>() as u64));
    let mut shards = Shards { buffer: writer.buffer(), writer, tokenizer, row: 0 };
    let ended = foreign.each(&|_| true, &mut |document| {
        stage.go_on()?;
        shards.add(&document)?;
        stage.inc(document.ids.len() as u64);
        Ok(())
    });
    match ended.and_then(|()| shards.flush()) {
        Err(error @ ForeignError::Interrupted(_)) => Err(JobError::interrupted(error)),
        Err(error) => Err(JobError::failed(error)),
        Ok(()) => Ok(()),
    }
}

/// The shard being filled.
struct Shards<'w> {
    buffer: ShardBuffer,
    writer: &'w mut StoreWriter,
    tokenizer: &'w Tokenizer,
    /// The next row.
    row: u64,
}

impl Shards<'_> {
    /// Adds a document, whose rows may lie in several shards.
    fn add(&mut self, document: &Document) -> Result<(), ForeignError> {
        let shard_rows = self.writer.target().layout.shard_rows;
        let mut from = 0;
        while from < document.ids.len() {
            let room = (shard_rows - self.row % shard_rows) as usize;
            let n = room.min(document.ids.len() - from);
            if !self.writer.is_done(self.row / shard_rows) {
                self.put(document, from, n)?;
            }
            self.row += n as u64;
            from += n;
            if self.row.is_multiple_of(shard_rows) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn put(&mut self, document: &Document, from: usize, n: usize) -> Result<(), ForeignError> {
        let first = self.buffer.rows().len();
        for (i, id) in document.ids[from..from + n].iter().enumerate() {
            self.buffer.push_row(self.row + i as u64, document.number as u64, (from + i) as u32, *id)?;
        }
        for (column, value) in document.values.iter().enumerate() {
            let part = value.f_narrow(0, from as i64, n as i64)?.f_contiguous()?;
            let numbers: Vec<f32> = part.f_flatten(0, -1)?.try_into()?;
            self.buffer.put(column, first, &numbers)?;
        }
        Ok(())
    }

    /// Writes what is in the buffer.
    fn flush(&mut self) -> Result<(), ForeignError> {
        if self.buffer.rows().is_empty() {
            return Ok(());
        }
        let shard = (self.row - 1) / self.writer.target().layout.shard_rows;
        Ok(self.writer.write(shard, &mut self.buffer, &|id| self.tokenizer.piece(id).text)?)
    }
}
