//! Exports in the layouts of other tools. Nothing is computed: rows come from the store, shard by shard.
//!
//! ```text
//! hf         datasets' save_to_disk: a row per token, its ids, and a list of numbers per hook
//! saelens    the same with a row per context, as SAELens caches activations: Array2D [context, d] per hook, token_ids
//! vllm-lens  a response of its server per document: residual_stream [layers, tokens, d], token ids
//! ```

mod dataset;
mod rows;
mod runs;
mod saelens;
mod vllm_lens;

use std::{io, path::Path};

use arrow::error::ArrowError;

pub use self::{
    dataset::DATA,
    rows::rows,
    runs::{Cut, Lengths},
    saelens::saelens,
    vllm_lens::vllm_lens,
};
use super::store::{ActivationStore, StoreError};
use crate::{
    hook::{BlockHook, HookPoint},
    results::run::RunError,
    watch::Stopped,
    watch::Underway,
};

/// Bytes of numbers of a record batch.
const BATCH_BYTES: usize = 16 << 20;

/// An export that cannot be laid out so.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The export cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Arrow refused a table.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// No run of tokens is as long as a context.
    #[error("no {wanted} consecutive tokens of one document and window are there; the longest has {longest}")]
    TooShort {
        /// Tokens of a context.
        wanted: usize,
        /// Tokens of the longest run.
        longest: usize,
    },
    /// vllm-lens keeps what leaves blocks.
    #[error("none of the columns is the residual stream above layer 0, which is what vllm-lens keeps")]
    NoStream,
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

/// What is converted.
pub struct Conversion<'a> {
    /// The export.
    pub store: &'a ActivationStore,
    /// Places of the columns that are wanted.
    pub columns: &'a [usize],
    /// How rows are cut into runs.
    pub cut: Cut,
    /// The folder.
    pub out: &'a Path,
    /// Hears of rows, and says whether to stop.
    pub stage: &'a Underway<'a>,
}

impl Conversion<'_> {
    fn point(&self, column: usize) -> &str {
        &self.store.columns()[column].point
    }

    /// The block whose output a column is; none of another hook, and of what enters the first.
    fn block(&self, column: usize) -> Option<usize> {
        match HookPoint::parse(self.point(column))? {
            HookPoint::Block(layer, BlockHook::ResidPre) => layer.checked_sub(1),
            HookPoint::Block(layer, BlockHook::ResidPost) => Some(layer),
            _ => None,
        }
    }

    fn done(&self, rows: usize) -> Result<(), ConvertError> {
        Ok(self.stage.done(rows as u64)?)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Converted {
    /// Rows of the dataset, or files.
    pub records: u64,
    /// Tokens that are in them.
    pub tokens: u64,
    /// Tokens that are in none: the rest of a document behind its last whole context.
    pub left_out: u64,
}
