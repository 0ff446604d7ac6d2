//! A model's own tokenizer, read from `tokenizer.json`.

use super::bos::{Bos, BosPolicy};
use super::config_files::ConfigFiles;
use super::display::{Spelling, TokenText};
use super::error::TextError;
use super::long::{Cut, LONG, Placed, encode_long};
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;
use tokenizers::PostProcessorWrapper;

/// Text to ids and back, with the BOS decision made.
///
/// Truncation and padding stored in `tokenizer.json` are off: a document has all of its tokens and no others.
/// Special tokens written out in a text (`<|endoftext|>`) become their ids, as everywhere.
pub struct Tokenizer {
    /// Without post-processor: what it would prepend is `bos`, and what it would append is never added.
    inner: tokenizers::Tokenizer,
    bos: Bos,
    eos: Option<u32>,
    max_id: u32,
    spelling: Spelling,
}

/// The start of a document's own tokens, with the text bytes up to the end of each of them.
pub(super) struct ContentStart {
    pub(super) ids: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder, and the files beside it that name special tokens.
    ///
    /// # Errors
    /// A missing or malformed file, or a BOS that cannot be had; see [`TextError`].
    pub fn load(dir: &Path, policy: BosPolicy) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(TextError::NoTokenizer { hint: conversion_hint(dir), path });
        }
        let bytes =
            std::fs::read(&path).map_err(|source| TextError::io(path.display().to_string(), source))?;
        let bad = |message: String| TextError::BadTokenizer { path: path.clone(), message };
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| bad(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| bad(error.to_string()))?;
        inner.with_padding(None);
        let files = ConfigFiles::load(dir)?;
        let bos = Bos::resolve(policy, &inner, &files)?;
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let max_id = inner.get_vocab(true).into_values().max();
        let max_id = max_id.ok_or_else(|| bad("the vocabulary is empty".into()))?;
        let eos = eos(&inner, &files)?;
        Ok(Self { bos, eos, max_id, spelling: Spelling::detect(&json), inner })
    }

    /// A document's ids: BOS as decided, then the text's own.
    ///
    /// # Errors
    /// [`TextError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.encode_content(text)?;
        if let Some(bos) = self.bos_before(&ids) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// [`encode`](Self::encode) of many texts in parallel, in order.
    ///
    /// # Errors
    /// [`TextError::Encode`].
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>, TextError> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// A text's own ids, without BOS.
    pub(super) fn encode_content(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.len() > LONG {
            let placed = encode_long(&self.inner, text, usize::MAX, Cut::default())?;
            return Ok(placed.into_iter().map(|token| token.id).collect());
        }
        let encoding =
            self.inner.encode_fast(text, false).map_err(|error| TextError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The first `limit` of a text's own ids, without encoding much more than these.
    pub(super) fn encode_start(&self, text: &str, limit: usize) -> Result<ContentStart, TextError> {
        let cut = if text.len() > LONG {
            Cut::default()
        } else {
            Cut { piece: text.len().max(1), context: 0 }
        };
        let placed: Vec<Placed> = encode_long(&self.inner, text, limit, cut)?;
        let (ids, ends) = placed.into_iter().take(limit).map(|token| (token.id, token.end)).unzip();
        Ok(ContentStart { ids, ends })
    }

    /// The BOS to put in front of these ids: never a second one.
    pub(super) fn bos_before(&self, ids: &[u32]) -> Option<u32> {
        self.bos.id.filter(|bos| ids.first() != Some(bos))
    }

    /// The text of ids, special tokens included.
    ///
    /// # Errors
    /// [`TextError::Decode`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.inner.decode(ids, false).map_err(|error| TextError::Decode(error.to_string()))
    }

    /// What one token stands for. An id the tokenizer does not know (embeddings are often padded) is `[id 50300]`.
    pub fn piece(&self, id: u32) -> TokenText {
        let Some(raw) = self.inner.id_to_token(id) else {
            return Spelling::Plain.token(format!("[id {id}]"), true);
        };
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id);
        let literal = added.is_some_and(|token| token.special || self.spelling == Spelling::ByteLevel);
        self.spelling.token(raw, literal)
    }

    /// How many tokens there are, added ones included. Ids may have holes: see [`max_id`](Self::max_id).
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest id.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The end-of-sequence token that the files name, else `<|endoftext|>` if there is one.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The BOS decision and its reason.
    pub fn bos(&self) -> &Bos {
        &self.bos
    }

    /// Checks that every id has a row in an embedding of `model_vocab` rows. More rows than ids are fine.
    ///
    /// # Errors
    /// [`TextError::VocabMismatch`].
    pub fn check_vocab(&self, model_vocab: usize) -> Result<(), TextError> {
        if (self.max_id as usize) < model_vocab {
            return Ok(());
        }
        Err(TextError::VocabMismatch { max_id: self.max_id, model_vocab })
    }
}

/// What to do about a missing `tokenizer.json` when another kind of tokenizer is there.
fn conversion_hint(dir: &Path) -> String {
    let other = [&["tokenizer.model"][..], &["spiece.model"], &["vocab.json", "merges.txt"], &["vocab.txt"]]
        .into_iter()
        .find(|names| names.iter().all(|name| dir.join(name).is_file()));
    other.map_or_else(String::new, |names| {
        format!(
            ", but {} is there: convert it with transformers, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            names.join(" + ")
        )
    })
}

fn eos(inner: &tokenizers::Tokenizer, files: &ConfigFiles) -> Result<Option<u32>, TextError> {
    for file in [&files.tokenizer, &files.special] {
        if let Some(id) = file.token("eos_token")?.and_then(|token| inner.token_to_id(token)) {
            return Ok(Some(id));
        }
    }
    let from_model = files.model.token_id("eos_token_id")?.and_then(|id| u32::try_from(id).ok());
    Ok(from_model.or_else(|| inner.token_to_id("<|endoftext|>")))
}
