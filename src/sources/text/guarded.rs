//! The one place that calls the `tokenizers` library, which panics on files it does not expect, and whose normalisers
//! and patterns can take any time and any memory.
//!
//! A call ends in a result or in a line that says what the library said; what it may use grows with the text. Lookups
//! in the vocabulary need no guard.

use super::error::TextError;
use super::guard::{Bound, bounded, one_line, quietly};
use super::long::Placed;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokenizers::{Encoding, ModelWrapper, PostProcessorWrapper, Token};

/// `tokenizers::Tokenizer` without truncation, padding, dropout and post-processor.
pub(super) struct Guarded {
    inner: Arc<tokenizers::Tokenizer>,
    path: PathBuf,
}

/// What the post-processor puts around a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) prefix: Vec<u32>,
    pub(super) suffix: Vec<u32>,
}

/// The library failed on a text.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Which of the texts.
    pub(super) at: usize,
    /// What it said.
    pub(super) message: String,
}

/// What is asked of the library about one text.
type Ask<T> = fn(&tokenizers::Tokenizer, &str) -> Result<T, String>;

impl Guarded {
    /// Reads a `tokenizer.json`, and what its post-processor puts around a text.
    pub(super) fn load(path: &Path, bytes: Vec<u8>) -> Result<(Self, Around), TextError> {
        let megabytes = (bytes.len() >> 20) as u64;
        let bound = Bound { seconds: 10 + 2 * megabytes, mebibytes: 512 + 64 * megabytes };
        let read = bounded(bound, move || read(&bytes)).unwrap_or_else(|stopped| Err(stopped.to_string()));
        let (inner, around) =
            read.map_err(|message| TextError::BadTokenizer { path: path.into(), message })?;
        Ok((Self { inner: Arc::new(inner), path: path.into() }, around))
    }

    /// The ids of texts, which are given back.
    pub(super) fn ids(&self, texts: Vec<String>) -> Result<(Vec<String>, Vec<Vec<u32>>), Trouble> {
        self.ask(texts, |inner, text| {
            let encoding = inner.encode_fast(text, false).map_err(|error| one_line(&error.to_string()))?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// The tokens of texts with the bytes they cover, never inside a character.
    pub(super) fn placed(&self, texts: Vec<String>) -> Result<Vec<Vec<Placed>>, Trouble> {
        let placed = self.ask(texts, |inner, text| {
            let encoding = inner.encode(text, false).map_err(|error| one_line(&error.to_string()))?;
            let place = |(&id, &(start, end)): (&u32, &(usize, usize))| {
                let inside = start <= end && text.is_char_boundary(start) && text.is_char_boundary(end);
                let outside = || format!("it places a token at bytes {start} to {end} of {}", text.len());
                if inside { Ok(Placed { id, start, end }) } else { Err(outside()) }
            };
            encoding.get_ids().iter().zip(encoding.get_offsets()).map(place).collect()
        });
        placed.map(|(_, placed)| placed)
    }

    /// The text of ids, special tokens included.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let (inner, owned) = (Arc::clone(&self.inner), ids.to_vec());
        let decode = move || inner.decode(&owned, false).map_err(|error| one_line(&error.to_string()));
        let text =
            bounded(text_bound(8 * ids.len()), decode).unwrap_or_else(|stopped| Err(stopped.to_string()));
        text.map_err(|message| self.failed(format!("{} token ids", ids.len()), message))
    }

    /// An error of this tokenizer's on something.
    pub(super) fn failed(&self, on: String, message: String) -> TextError {
        TextError::Tokenizer { path: self.path.clone(), on, message }
    }

    /// The vocabulary's side of the library, which is only lookups.
    pub(super) fn vocabulary(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Asks about every text, in parallel and in order; of several failures the first is told.
    fn ask<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        ask: Ask<T>,
    ) -> Result<(Vec<String>, Vec<T>), Trouble> {
        let bound = text_bound(texts.iter().map(String::len).sum());
        let stages: Arc<Vec<AtomicU8>> = Arc::new(texts.iter().map(|_| AtomicU8::new(WAITING)).collect());
        let (seen, inner) = (Arc::clone(&stages), Arc::clone(&self.inner));
        // A worker of the pool waits here for its answer, so the answer must not wait for workers.
        let spread = texts.len() > 1 && rayon::current_thread_index().is_none();
        let work = move || {
            let one = |(at, text): (usize, &String)| {
                stages[at].store(STARTED, Ordering::Relaxed);
                let answer = quietly(|| ask(&inner, text)).unwrap_or_else(Err);
                stages[at].store(DONE, Ordering::Relaxed);
                answer.map_err(|message| Trouble { at, message })
            };
            let answers: Vec<_> = if spread {
                texts.par_iter().enumerate().map(one).collect()
            } else {
                texts.iter().enumerate().map(one).collect()
            };
            let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok((texts, answers))
        };
        bounded(bound, work).unwrap_or_else(|stopped| {
            let at = seen.iter().position(|stage| stage.load(Ordering::Relaxed) == STARTED);
            Err(Trouble { at: at.unwrap_or(0), message: stopped.to_string() })
        })
    }
}

/// Stages of a text.
const WAITING: u8 = 0;
const STARTED: u8 = 1;
const DONE: u8 = 2;

/// A hundred times slower and three times larger than the slowest tokenizers there are, and some for a start.
fn text_bound(bytes: usize) -> Bound {
    Bound { seconds: 10 + (bytes / 20_000) as u64, mebibytes: 512 + (bytes >> 10) as u64 }
}

fn read(bytes: &[u8]) -> Result<(tokenizers::Tokenizer, Around), String> {
    let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| one_line(&error.to_string()))?;
    inner.with_truncation(None).map_err(|error| one_line(&error.to_string()))?;
    inner.with_padding(None);
    let dropping = match inner.get_model() {
        ModelWrapper::BPE(bpe) if bpe.dropout.is_some() => Some(bpe.clone()),
        _ => None,
    };
    if let Some(mut bpe) = dropping {
        bpe.dropout = None;
        inner.with_model(bpe);
    }
    let around = Around::of(&inner)?;
    inner.with_post_processor(None::<PostProcessorWrapper>);
    Ok((inner, around))
}

impl Around {
    /// Asks the post-processor itself, with one token that no vocabulary has in place of a text.
    fn of(inner: &tokenizers::Tokenizer) -> Result<Self, String> {
        const TEXT: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, "x".into(), (0, 1))], 0);
        let full = inner.post_process(text, None, true).map_err(|error| one_line(&error.to_string()))?;
        let ids = full.get_ids();
        let places: Vec<usize> = (0..ids.len()).filter(|at| ids[*at] == TEXT).collect();
        let [at] = places[..] else {
            return Err(format!("its post-processor gives a text back {} times, not once", places.len()));
        };
        Ok(Self { prefix: ids[..at].to_vec(), suffix: ids[at + 1..].to_vec() })
    }
}
