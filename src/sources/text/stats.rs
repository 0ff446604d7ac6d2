//! Counts for the manifest.

/// What a [`WindowStream`](super::WindowStream) has handed out so far; complete when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextStats {
    /// Documents begun, empty ones included.
    pub documents: u64,
    /// Documents without a token of their own.
    pub empty_documents: u64,
    /// Windows handed out.
    pub windows: u64,
    /// Tokens in the windows, BOS or EOS included.
    pub tokens: u64,
    /// BOS tokens put in front of documents, or EOS tokens when packing; the dropped tail's are included.
    pub added_tokens: u64,
    /// Tokens of the unfinished last chunk, dropped when packing.
    pub dropped_tokens: u64,
    /// UTF-8 bytes of the text that became tokens, the dropped tail's included.
    pub text_bytes: u64,
    /// Whether the token limit, not the end of the corpus, ended the stream.
    pub reached_limit: bool,
}
