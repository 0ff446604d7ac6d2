//! Windows of token ids, the pieces of text that go through the model.

use super::corpus::Corpus;
use super::encoded::{Encoded, EncodedDocuments, Lead};
use super::error::TextError;
use super::pack::PackedWindows;
use super::stats::TextStats;
use super::tokenizer::Tokenizer;

/// A run of tokens of one document inside a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The document.
    pub doc_id: u64,
    /// Place of the segment's first token in its document, BOS (or the EOS of packing) included.
    pub doc_pos: u32,
    /// Tokens of the whole document, up to the token limit if it was cut there.
    pub doc_len: u32,
    /// Place of the segment's first token in the window.
    pub offset: u32,
    /// Tokens in the segment.
    pub len: u32,
}

/// Tokens that go through the model together, at positions 0, 1, 2 ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The ids, never empty.
    pub ids: Vec<u32>,
    /// Whose tokens they are, in order, without gaps. One segment unless the window is packed.
    pub segments: Vec<Segment>,
}

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOptions {
    /// Longest window in tokens: see [`resolve_seq_len`].
    pub seq_len: usize,
    /// `--tokens`: stop after so many; the last document is cut there.
    pub max_tokens: Option<u64>,
    /// `--pack`: join documents and cut equal chunks, see [`PackedWindows`].
    pub pack: bool,
}

/// The window length: `--seq-len`, by default and at most the model's context length.
///
/// # Errors
/// [`TextError::SeqLen`].
pub fn resolve_seq_len(asked: Option<usize>, context: usize) -> Result<usize, TextError> {
    match asked.unwrap_or(context) {
        seq_len if (1..=context).contains(&seq_len) => Ok(seq_len),
        seq_len => Err(TextError::SeqLen { seq_len, context }),
    }
}

/// Starts cutting a corpus.
///
/// # Errors
/// A limit of zero, or packing without an EOS token.
pub fn open_windows<'a>(
    corpus: Corpus,
    tokenizer: &'a Tokenizer,
    options: &WindowOptions,
) -> Result<WindowStream<'a>, TextError> {
    if options.seq_len == 0 {
        return Err(TextError::SeqLen { seq_len: 0, context: 0 });
    }
    if options.max_tokens == Some(0) {
        return Err(TextError::NoTokensAsked);
    }
    let documents = |lead| EncodedDocuments::new(corpus, tokenizer, lead, options.max_tokens);
    if options.pack {
        let eos = tokenizer.eos_id().ok_or(TextError::NoEos)?;
        let token = tokenizer.piece(eos).raw;
        return Ok(WindowStream::Packed(PackedWindows::new(
            documents(Lead::Eos(eos)),
            options.seq_len,
            format!("--pack begins every document with {token:?} (id {eos}) and adds no BOS"),
        )));
    }
    Ok(WindowStream::Separate(Windows::new(
        documents(Lead::Bos),
        options.seq_len,
        tokenizer.bos().reason.clone(),
    )))
}

/// Windows of one or the other kind.
pub enum WindowStream<'a> {
    /// One document per window.
    Separate(Windows<'a>),
    /// Documents joined.
    Packed(PackedWindows<'a>),
}

impl WindowStream<'_> {
    /// Counts so far.
    pub fn stats(&self) -> TextStats {
        match self {
            Self::Separate(windows) => windows.stats(),
            Self::Packed(windows) => windows.stats(),
        }
    }

    /// What is put in front of documents and why, in one sentence, to print and to record.
    pub fn reason(&self) -> &str {
        match self {
            Self::Separate(windows) => &windows.reason,
            Self::Packed(windows) => windows.reason(),
        }
    }
}

impl Iterator for WindowStream<'_> {
    type Item = Result<Window, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Separate(windows) => windows.next(),
            Self::Packed(windows) => windows.next(),
        }
    }
}

/// Cuts every document into consecutive windows of at most `seq_len` tokens. Nothing attends across documents,
/// because no window holds two. Documents without tokens give no window.
pub struct Windows<'a> {
    documents: EncodedDocuments<'a>,
    seq_len: usize,
    reason: String,
    current: Option<Encoded>,
    /// Next token of the current document.
    pos: usize,
}

impl<'a> Windows<'a> {
    fn new(documents: EncodedDocuments<'a>, seq_len: usize, reason: String) -> Self {
        Self { documents, seq_len, reason, current: None, pos: 0 }
    }

    /// Counts so far.
    pub fn stats(&self) -> TextStats {
        self.documents.stats
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<Window, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(document) = self.current.as_ref().filter(|document| self.pos < document.ids.len()) {
                let end = document.ids.len().min(self.pos + self.seq_len);
                let ids = document.ids[self.pos..end].to_vec();
                let segment = Segment {
                    doc_id: document.id,
                    doc_pos: self.pos as u32,
                    doc_len: document.ids.len() as u32,
                    offset: 0,
                    len: ids.len() as u32,
                };
                self.pos = end;
                self.documents.stats.windows += 1;
                self.documents.stats.tokens += ids.len() as u64;
                return Some(Ok(Window { ids, segments: vec![segment] }));
            }
            match self.documents.next()? {
                Ok(document) => {
                    self.current = Some(document);
                    self.pos = 0;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
