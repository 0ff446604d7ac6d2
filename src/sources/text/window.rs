//! Windows of token ids, the pieces of text that go through the model.

use super::corpus::Corpus;
use super::encoded::{Encoded, EncodedDocuments, Lead};
use super::error::TextError;
use super::pack::PackedWindows;
use super::stats::TextStats;
use super::tokenizer::Tokenizer;

/// A run of tokens of one document inside a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Tokens of the document that stand for none of its text (BOS, or the EOS of packing).
    pub doc_added: u32,
    /// Bytes of the text that the others stand for.
    pub doc_bytes: u64,
}

impl Segment {
    /// The segment's share of the document's bytes and of the tokens that stand for them.
    pub fn text(&self) -> (f64, f64) {
        let share = f64::from(self.len) / f64::from(self.doc_len.max(1));
        (share * self.doc_bytes as f64, share * f64::from(self.doc_len.saturating_sub(self.doc_added)))
    }
}

/// Tokens that go through the model together, at positions 0, 1, 2 ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The ids, never empty.
    pub ids: Vec<u32>,
    /// Whose tokens they are, in order, without gaps. One segment unless the window is packed.
    pub segments: Vec<Segment>,
}

impl Window {
    /// The document of its first token.
    pub fn document(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.doc_id)
    }
}

/// What is said of chats before what is said of other texts.
const CHATS: &str = "chats begin as their template writes them; texts: ";

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
    let around = tokenizer.around();
    if around >= options.seq_len && around > 1 {
        return Err(TextError::NoRoom { seq_len: options.seq_len, around });
    }
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
/// because no window holds two. Documents without tokens give no window. Every window of an encoder has what its
/// template puts around a text; it counts as part of the document.
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
                    doc_added: document.added,
                    doc_bytes: document.bytes,
                };
                self.pos = end;
                self.documents.stats.windows += 1;
                self.documents.stats.tokens += ids.len() as u64;
                return Some(Ok(Window { ids, segments: vec![segment] }));
            }
            match self.documents.next()? {
                Ok(document) => {
                    if document.chat && !self.reason.starts_with(CHATS) {
                        self.reason.insert_str(0, CHATS);
                    }
                    self.current = Some(self.documents.framed(document, self.seq_len));
                    self.pos = 0;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sources::text::BosPolicy;
    use serde_json::json;
    use std::path::Path;

    pub(in crate::sources::text) fn gpt2(policy: BosPolicy) -> Tokenizer {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpt2-alice-8l");
        Tokenizer::load(&dir, policy).expect("the fixture loads")
    }

    /// A corpus of these texts, and the folder it lives in.
    pub(in crate::sources::text) fn corpus(texts: &[&str]) -> (tempfile::TempDir, Corpus) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.jsonl");
        let lines: Vec<_> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
        std::fs::write(&path, lines.join("\n")).expect("written");
        let corpus = Corpus::open(&[path], None, None).expect("it opens");
        (dir, corpus)
    }

    pub(in crate::sources::text) fn cut(
        texts: &[&str],
        tokenizer: &Tokenizer,
        seq_len: usize,
        max_tokens: Option<u64>,
        pack: bool,
    ) -> Result<(Vec<Window>, TextStats), TextError> {
        let (_dir, corpus) = corpus(texts);
        let mut stream = open_windows(corpus, tokenizer, &WindowOptions { seq_len, max_tokens, pack })?;
        let windows = stream.by_ref().collect::<Result<Vec<_>, _>>()?;
        Ok((windows, stream.stats()))
    }

    const TEXTS: [&str; 5] = [
        "Alice was beginning",
        "",
        "to get very tired of sitting by her sister",
        "🙂\n",
        "<|endoftext|>on the bank",
    ];

    #[test]
    fn segments_share_out_the_bytes_of_their_documents() {
        for policy in [BosPolicy::Auto, BosPolicy::Never] {
            for seq_len in [1, 3, 256] {
                let (windows, stats) = cut(&TEXTS, &gpt2(policy), seq_len, None, false).unwrap();
                let parts = windows.iter().flat_map(|window| &window.segments).map(Segment::text);
                let (bytes, spoken) =
                    parts.fold((0.0, 0.0), |(a, b), (bytes, spoken)| (a + bytes, b + spoken));
                assert!((bytes - stats.text_bytes as f64).abs() < 1e-9, "{bytes}");
                assert!((spoken - (stats.tokens - stats.added_tokens) as f64).abs() < 1e-9, "{spoken}");
            }
        }
    }

    #[test]
    fn windows_put_together_are_the_documents() {
        for policy in [BosPolicy::Auto, BosPolicy::Never] {
            let tokenizer = gpt2(policy);
            for seq_len in [1, 2, 3, 5, 256] {
                let (windows, stats) = cut(&TEXTS, &tokenizer, seq_len, None, false).unwrap();
                for (id, text) in TEXTS.iter().enumerate() {
                    let ids = tokenizer.encode(text).unwrap();
                    let mut pos = 0;
                    for window in windows.iter().filter(|window| window.segments[0].doc_id == id as u64) {
                        let len = window.ids.len();
                        assert!(len == seq_len || pos + len == ids.len());
                        assert_eq!(window.ids, ids[pos..pos + len]);
                        let segment = Segment {
                            doc_id: id as u64,
                            doc_pos: pos as u32,
                            doc_len: ids.len() as u32,
                            offset: 0,
                            len: len as u32,
                            doc_added: window.segments[0].doc_added,
                            doc_bytes: text.len() as u64,
                        };
                        assert_eq!(window.segments, [segment]);
                        pos += len;
                    }
                    assert_eq!(pos, ids.len(), "document {id}");
                }
                assert!(windows.is_sorted_by_key(|window| window.segments[0].doc_id));
                let bos = policy == BosPolicy::Auto;
                assert_eq!((stats.documents, stats.empty_documents), (5, 1));
                assert_eq!(stats.added_tokens, if bos { 4 } else { 0 });
                assert_eq!(stats.windows, windows.len() as u64);
                assert_eq!(stats.tokens, windows.iter().map(|window| window.ids.len() as u64).sum::<u64>());
                assert_eq!(stats.text_bytes, TEXTS.iter().map(|text| text.len() as u64).sum::<u64>());
                assert!(!stats.reached_limit);
            }
        }
    }

    #[test]
    fn a_limit_gives_exactly_so_many_tokens() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let (all, full) = cut(&TEXTS, &tokenizer, 4, None, false).unwrap();
        let all: Vec<u32> = all.into_iter().flat_map(|window| window.ids).collect();
        for n in 1..full.tokens {
            let (windows, stats) = cut(&TEXTS, &tokenizer, 4, Some(n), false).unwrap();
            let last = windows.last().unwrap().segments[0];
            assert_eq!(last.doc_pos + last.len, last.doc_len);
            let ids: Vec<u32> = windows.into_iter().flat_map(|window| window.ids).collect();
            assert_eq!(ids, all[..n as usize]);
            assert_eq!(stats.tokens, n);
            assert!(stats.reached_limit);
            assert!(stats.text_bytes <= full.text_bytes);
        }
        let (_, stats) = cut(&TEXTS, &tokenizer, 4, Some(full.tokens + 1), false).unwrap();
        assert_eq!(stats, full);
    }

    #[test]
    fn the_bytes_of_a_cut_document_are_counted_to_the_cut() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let text = "Alice was beginning to get very tired";
        let (windows, stats) = cut(&[text, "b"], &tokenizer, 256, Some(4), false).unwrap();
        assert_eq!(stats.text_bytes as usize, tokenizer.decode(&windows[0].ids[1..]).unwrap().len());
        assert_eq!((stats.documents, stats.added_tokens), (1, 1));
    }

    /// More documents and bytes than one batch of reading ahead.
    #[test]
    fn reading_ahead_does_not_show() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let long = "Alice was beginning to get very tired.\n".repeat(14_000);
        let mut texts = vec!["a b"; 700];
        texts[300] = &long;
        let (windows, stats) = cut(&texts, &tokenizer, 256, None, false).unwrap();
        assert_eq!(stats.documents, 700);
        let of_long: Vec<u32> =
            windows.iter().filter(|w| w.segments[0].doc_id == 300).flat_map(|w| w.ids.clone()).collect();
        assert!(of_long == tokenizer.encode(&long).unwrap());
        let ids = tokenizer.encode("a b").unwrap();
        let others: Vec<_> = windows.iter().filter(|w| w.segments[0].doc_id != 300).collect();
        assert_eq!(others.len(), 699);
        assert!(others.iter().all(|window| window.ids == ids));
        // The limit inside the long document.
        let (_, stats) = cut(&texts, &tokenizer, 256, Some(5000), false).unwrap();
        assert_eq!((stats.tokens, stats.documents), (5000, 301));
    }

    #[test]
    fn an_error_comes_after_the_documents_before_it_and_not_beyond_the_limit() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let good = b"{\"text\":\"a b\"}\n{\"text\":\"c d\"}\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, [&good[..], b"{\n"].concat()).unwrap();
        let run = |max_tokens| {
            let corpus = Corpus::open(std::slice::from_ref(&path), None, None).unwrap();
            let options = WindowOptions { seq_len: 8, max_tokens, pack: false };
            open_windows(corpus, &tokenizer, &options)
                .unwrap()
                .map(|window| window.is_ok())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(None), [true, true, false]);
        assert_eq!(run(Some(4)), [true, true]);
    }

    #[test]
    fn documents_without_tokens() {
        let tokenizer = gpt2(BosPolicy::Auto);
        let (windows, stats) = cut(&["", "a"], &tokenizer, 8, None, false).unwrap();
        assert_eq!(windows[0].ids, [0]);
        assert_eq!((stats.documents, stats.empty_documents), (2, 1));
        let never = gpt2(BosPolicy::Never);
        let (windows, _) = cut(&["", "a"], &never, 8, None, false).unwrap();
        assert_eq!(windows.len(), 1);
        assert_eq!(windows[0].segments[0].doc_id, 1);
        let error = cut(&["", ""], &tokenizer, 8, None, false).unwrap_err().to_string();
        assert!(error.starts_with("all 2 documents are empty in "), "{error}");
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(resolve_seq_len(None, 256).unwrap(), 256);
        assert_eq!(resolve_seq_len(Some(1), 256).unwrap(), 1);
        for asked in [0, 257] {
            let error = resolve_seq_len(Some(asked), 256).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("--seq-len {asked} must be between 1 and the model's context length 256")
            );
        }
        let tokenizer = gpt2(BosPolicy::Auto);
        assert!(matches!(cut(&["a"], &tokenizer, 8, Some(0), false), Err(TextError::NoTokensAsked)));
        let (_dir, corpus) = corpus(&["a"]);
        let options = WindowOptions { seq_len: 8, max_tokens: None, pack: false };
        let stream = open_windows(corpus, &tokenizer, &options).unwrap();
        assert_eq!(stream.reason(), "config.json names bos_token_id 0 and the tokenizer adds none");
    }
}
