//! Documents with their ids, encoded in parallel a few at a time.

use super::corpus::{Corpus, Document};
use super::error::TextError;
use super::long::LONG;
use super::stats::TextStats;
use super::tokenizer::Tokenizer;
use std::collections::VecDeque;

/// A batch to encode ends at this many documents ...
const BATCH_DOCUMENTS: usize = 256;
/// ... or at this many bytes of text.
const BATCH_BYTES: usize = 1 << 20;

/// What goes in front of a document's own ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// The tokenizer's BOS decision.
    Bos,
    /// This EOS, always (packing).
    Eos(u32),
}

/// A document's ids, lead included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) id: u64,
    pub(super) ids: Vec<u32>,
    /// How many of them are the lead.
    pub(super) added: u32,
    /// Bytes of text that the others stand for.
    pub(super) bytes: u64,
    /// Whether it is a chat.
    pub(super) chat: bool,
}

/// Streams encoded documents until the corpus ends or `remaining` tokens are given out; the last document is cut
/// there. Counts into `stats` what it gives out, not what it has read ahead.
pub(super) struct EncodedDocuments<'a> {
    corpus: Corpus,
    tokenizer: &'a Tokenizer,
    lead: Lead,
    remaining: Option<u64>,
    queue: VecDeque<(Document, Option<Vec<u32>>)>,
    /// An error met while reading ahead: given out after the documents before it.
    pending: Option<TextError>,
    finished: bool,
    pub(super) stats: TextStats,
}

impl<'a> EncodedDocuments<'a> {
    pub(super) fn new(corpus: Corpus, tokenizer: &'a Tokenizer, lead: Lead, limit: Option<u64>) -> Self {
        Self {
            corpus,
            tokenizer,
            lead,
            remaining: limit,
            queue: VecDeque::new(),
            pending: None,
            finished: false,
            stats: TextStats::default(),
        }
    }

    /// Reads a batch ahead and encodes it. Long documents wait for their turn: they encode in parallel themselves,
    /// and only as far as needed.
    fn refill(&mut self) -> Result<(), TextError> {
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while documents.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
            match self.corpus.next() {
                Some(Ok(document)) => {
                    bytes += document.text.len();
                    documents.push(document);
                }
                Some(Err(error)) => {
                    self.pending = Some(error);
                    break;
                }
                None => break,
            }
        }
        let (mut short, places): (Vec<_>, Vec<_>) = documents
            .iter_mut()
            .enumerate()
            .filter(|(_, document)| document.text.len() <= LONG)
            .map(|(place, document)| (std::mem::replace(document, Document::empty()), place))
            .unzip();
        let ids = self.tokenizer.encode_documents(&mut short)?;
        self.queue = documents.into_iter().map(|document| (document, None)).collect();
        for ((document, ids), place) in short.into_iter().zip(ids).zip(places) {
            self.queue[place] = (document, Some(ids));
        }
        Ok(())
    }

    /// The lead of a document that starts with these ids.
    fn lead_of(&self, document: &Document, content: &[u32]) -> Vec<u32> {
        match self.lead {
            Lead::Bos if document.turns.is_some() => self.tokenizer.bos_before_chat(content).to_vec(),
            Lead::Bos => self.tokenizer.bos_before(&document.text, content).to_vec(),
            Lead::Eos(eos) => vec![eos],
        }
    }

    /// Puts lead and content together, cuts at the limit and counts.
    fn finish(&mut self, document: &Document, content: Option<Vec<u32>>) -> Result<Encoded, TextError> {
        let room = self.remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let fits = content.filter(|content| content.len() < room);
        let named = |error: TextError| error.on(&document.origin);
        let (content, ends) = match fits {
            Some(content) => (content, None),
            None if room == usize::MAX => {
                (self.tokenizer.encode_content(&document.text).map_err(named)?, None)
            }
            None => {
                let start = self.tokenizer.encode_start(&document.text, room).map_err(named)?;
                (start.ids, Some(start.ends))
            }
        };
        let mut lead = self.lead_of(document, &content);
        lead.truncate(room);
        let kept = content.len().min(room - lead.len());
        let bytes = match &ends {
            Some(ends) if ends.len() == room => ends[..kept].iter().copied().max().unwrap_or(0),
            _ => document.text.len(),
        };
        let ids = [&lead[..], &content[..kept]].concat();
        self.stats.documents += 1;
        self.stats.empty_documents += u64::from(content.is_empty());
        self.stats.added_tokens += lead.len() as u64;
        self.stats.text_bytes += bytes as u64;
        if let Some(left) = &mut self.remaining {
            *left -= ids.len() as u64;
        }
        Ok(Encoded {
            id: document.id,
            ids,
            added: lead.len() as u32,
            bytes: bytes as u64,
            chat: document.turns.is_some(),
        })
    }

    /// The document with an encoder's template around every window of `seq_len` tokens, which come on top of a limit of
    /// tokens.
    pub(super) fn framed(&mut self, document: Encoded, seq_len: usize) -> Encoded {
        if self.tokenizer.around() == 0 {
            return document;
        }
        let ids = self.tokenizer.framed(&document.ids, document.added as usize, seq_len);
        let more = ids.len() - document.ids.len();
        self.stats.added_tokens += more as u64;
        Encoded { ids, added: document.added + more as u32, ..document }
    }

    fn advance(&mut self) -> Result<Option<Encoded>, TextError> {
        if self.remaining == Some(0) {
            self.stats.reached_limit = true;
            return Ok(None);
        }
        if self.queue.is_empty() && self.pending.is_none() {
            self.refill()?;
        }
        if let Some((document, content)) = self.queue.pop_front() {
            return self.finish(&document, content).map(Some);
        }
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        if self.stats.documents == self.stats.empty_documents {
            let (documents, inputs) = (self.stats.documents, self.corpus.names().to_owned());
            return Err(TextError::AllEmpty { documents, inputs });
        }
        Ok(None)
    }
}

impl Iterator for EncodedDocuments<'_> {
    type Item = Result<Encoded, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.advance().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}
