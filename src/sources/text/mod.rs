//! From data files to windows of token ids.
//!
//! ```text
//! files, stdin ── Corpus ──> Document ── Tokenizer ──> ids per document ── WindowStream ──> Window ── batches ──> model
//! ```
//!
//! 1. [`Corpus`] checks every input, then streams [`Document`]s in reading order; ids count from 0 over all inputs.
//! 2. [`Tokenizer`] turns a document into ids. Whether a BOS token goes in front is decided once, at load, from a
//!    [`BosPolicy`]; the decision and its reason are in [`Bos`].
//! 3. [`open_windows`] cuts documents into [`Window`]s of at most the context length. By default a window holds
//!    tokens of one document, so nothing attends across documents. With `pack` documents are joined by EOS and cut
//!    into equal chunks, and attention does cross documents.
//! 4. [`batches`] groups windows of equal length, so that a batch needs no padding.
//!
//! Memory does not grow with the corpus; the largest single document is held whole.

mod batch;
mod bos;
mod config_files;
mod corpus;
mod display;
mod encoded;
pub(crate) mod error;
mod gguf;
pub(crate) mod guard;
mod guarded;
pub(crate) mod long;
mod pack;
#[cfg(test)]
mod properties;
pub(crate) mod reader;
mod stats;
mod tokenizer;
mod tokenizer_file;
mod turns;
mod window;

pub use batch::{Batch, batches, each_batch, ids_of};
pub use bos::{Bos, BosPolicy};
pub use corpus::{Corpus, Document};
pub use display::{TokenText, show};
pub use error::TextError;
pub use gguf::{tokenizer_config, tokenizer_json};
pub use pack::PackedWindows;
pub(crate) use reader::arrow_sizes;
pub use reader::{Format, data_files};
pub use stats::TextStats;
pub use tokenizer::{Tokenizer, excerpt};
pub use turns::turn_positions;
pub use window::{Segment, Window, WindowOptions, WindowStream, Windows, open_windows, resolve_seq_len};
