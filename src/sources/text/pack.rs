//! Packing: equal chunks over the borders of documents, as the tuned-lens reference trains.

use super::encoded::{Encoded, EncodedDocuments};
use super::error::TextError;
use super::stats::TextStats;
use super::window::{Segment, Window};

/// Joins documents as EOS + document + EOS + document ... and cuts chunks of exactly `seq_len` tokens.
///
/// The EOS belongs to the document that follows, at its place 0. Attention crosses documents inside a chunk. The
/// unfinished chunk at the end is dropped and counted (the reference drops one per 2048 documents).
pub struct PackedWindows<'a> {
    documents: EncodedDocuments<'a>,
    seq_len: usize,
    reason: String,
    current: Option<Encoded>,
    /// Next token of the current document.
    pos: usize,
    /// The chunk being filled.
    chunk: Window,
    finished: bool,
}

impl<'a> PackedWindows<'a> {
    pub(super) fn new(documents: EncodedDocuments<'a>, seq_len: usize, reason: String) -> Self {
        let chunk = Window { ids: Vec::with_capacity(seq_len), segments: Vec::new() };
        Self { documents, seq_len, reason, current: None, pos: 0, chunk, finished: false }
    }

    /// Counts so far.
    pub fn stats(&self) -> TextStats {
        self.documents.stats
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Moves tokens of the current document into the chunk; false when it has none left.
    fn pour(&mut self) -> bool {
        let Some(document) = self.current.as_ref().filter(|document| self.pos < document.ids.len()) else {
            return false;
        };
        let offset = self.chunk.ids.len();
        let len = (document.ids.len() - self.pos).min(self.seq_len - offset);
        self.chunk.ids.extend_from_slice(&document.ids[self.pos..self.pos + len]);
        self.chunk.segments.push(Segment {
            doc_id: document.id,
            doc_pos: self.pos as u32,
            doc_len: document.ids.len() as u32,
            offset: offset as u32,
            len: len as u32,
            doc_added: document.added,
            doc_bytes: document.bytes,
        });
        self.pos += len;
        true
    }

    fn take_chunk(&mut self) -> Window {
        let empty = Window { ids: Vec::with_capacity(self.seq_len), segments: Vec::new() };
        let chunk = std::mem::replace(&mut self.chunk, empty);
        self.documents.stats.windows += 1;
        self.documents.stats.tokens += chunk.ids.len() as u64;
        chunk
    }

    /// Drops the tail; an error when there was nothing else.
    fn end(&mut self) -> Option<Result<Window, TextError>> {
        self.finished = true;
        let tokens = self.chunk.ids.len() as u64;
        self.documents.stats.dropped_tokens = tokens;
        let too_short = TextError::TooShortToPack { tokens, seq_len: self.seq_len };
        (self.documents.stats.windows == 0).then_some(Err(too_short))
    }
}

impl Iterator for PackedWindows<'_> {
    type Item = Result<Window, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        loop {
            if self.chunk.ids.len() == self.seq_len {
                return Some(Ok(self.take_chunk()));
            }
            if self.pour() {
                continue;
            }
            match self.documents.next() {
                Some(Ok(document)) => {
                    self.current = Some(document);
                    self.pos = 0;
                }
                Some(Err(error)) => {
                    self.finished = true;
                    return Some(Err(error));
                }
                None => return self.end(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::{corpus, cut, gpt2};
    use super::super::{BosPolicy, WindowOptions, open_windows};

    const TEXTS: [&str; 4] =
        ["Alice was beginning to get very tired", "", "<|endoftext|>of sitting", "by her sister"];

    /// EOS + document + EOS + document ..., with every token's document and place.
    fn joined() -> Vec<(u32, u64, u32)> {
        let tokenizer = gpt2(BosPolicy::Never);
        let mut joined = Vec::new();
        for (id, text) in TEXTS.iter().enumerate() {
            let ids = [vec![0], tokenizer.encode(text).unwrap()].concat();
            joined.extend(ids.into_iter().enumerate().map(|(pos, token)| (token, id as u64, pos as u32)));
        }
        joined
    }

    #[test]
    fn chunks_are_equal_and_in_order() {
        let joined = joined();
        for policy in [BosPolicy::Auto, BosPolicy::Never] {
            for seq_len in [1, 2, 5, 7] {
                let (windows, stats) = cut(&TEXTS, &gpt2(policy), seq_len, None, true).unwrap();
                let mut got = Vec::new();
                for window in &windows {
                    assert_eq!(window.ids.len(), seq_len);
                    let mut offset = 0;
                    for segment in &window.segments {
                        assert_eq!(segment.offset, offset);
                        for i in 0..segment.len {
                            let id = window.ids[(offset + i) as usize];
                            got.push((id, segment.doc_id, segment.doc_pos + i));
                        }
                        let len = joined.iter().filter(|token| token.1 == segment.doc_id).count();
                        assert_eq!(segment.doc_len as usize, len);
                        offset += segment.len;
                    }
                }
                assert_eq!(got, joined[..joined.len() / seq_len * seq_len]);
                assert_eq!(stats.dropped_tokens as usize, joined.len() % seq_len);
                assert_eq!((stats.documents, stats.added_tokens), (4, 4));
            }
        }
    }

    #[test]
    fn a_limit_keeps_whole_chunks() {
        let (windows, stats) = cut(&TEXTS, &gpt2(BosPolicy::Auto), 4, Some(10), true).unwrap();
        assert_eq!((windows.len(), stats.tokens, stats.dropped_tokens), (2, 8, 2));
        assert!(stats.reached_limit);
    }

    #[test]
    fn too_little_text_is_an_error() {
        let error = cut(&["a"], &gpt2(BosPolicy::Auto), 64, None, true).unwrap_err().to_string();
        assert_eq!(error, "--pack: the input has 2 tokens, less than one chunk of 64");
    }

    #[test]
    fn the_reason_names_the_eos() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let (_dir, corpus) = corpus(&["a"]);
        let options = WindowOptions { seq_len: 8, max_tokens: None, pack: true };
        let stream = open_windows(corpus, &tokenizer, &options).unwrap();
        assert_eq!(
            stream.reason(),
            "--pack begins every document with \"<|endoftext|>\" (id 0) and adds no BOS"
        );
    }
}
