//! What a lens or a probe was fitted on: hashes of its documents and a sketch of their runs.

use super::{
    Basis,
    document::{each_document, runs, whole, words},
    sample::Sample,
};
use crate::sources::text::Window;

/// Documents of which a hash is kept: 12 MiB at most. Of more documents one in 2, 4, 8 … has one.
pub(super) const DOCUMENTS: usize = 1 << 20;
/// Runs that are kept: 3 MiB at most, all of about 250 000 tokens.
pub(super) const RUNS: usize = 1 << 18;

/// The documents that something was fitted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedOn {
    pub(super) basis: Basis,
    /// SHA-256 of the tokenizer whose ids the symbols are.
    pub(super) tokenizer: Option<String>,
    pub(super) documents: u64,
    pub(super) symbols: u64,
    pub(super) wholes: Sample,
    pub(super) runs: Sample,
}

impl FittedOn {
    /// Nothing yet; `tokenizer` is the SHA-256 of the one whose ids are added.
    pub fn new(basis: Basis, tokenizer: Option<String>) -> Self {
        Self::bounded(basis, tokenizer, DOCUMENTS, RUNS)
    }

    pub(super) fn bounded(basis: Basis, tokenizer: Option<String>, documents: usize, runs: usize) -> Self {
        let (wholes, runs) = (Sample::new(documents), Sample::new(runs));
        Self { basis, tokenizer, documents: 0, symbols: 0, wholes, runs }
    }

    /// The documents of `windows`, in reading order, without tokens of `lead` in front.
    pub fn of_windows<'w>(
        windows: impl IntoIterator<Item = &'w Window>,
        lead: &[u32],
        tokenizer: Option<String>,
    ) -> Self {
        let mut fitted = Self::new(Basis::Tokens, tokenizer);
        each_document(windows, lead, |_, ids| fitted.add(ids));
        fitted
    }

    /// These texts.
    pub fn of_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut fitted = Self::new(Basis::Words, None);
        texts.into_iter().for_each(|text| fitted.add(&words(text)));
        fitted
    }

    /// Adds a document; an empty one is none.
    pub fn add(&mut self, symbols: &[u32]) {
        if symbols.is_empty() {
            return;
        }
        self.documents += 1;
        self.symbols += symbols.len() as u64;
        self.wholes.add(whole(symbols));
        let mut of_document: Vec<u64> =
            runs(symbols, self.basis.run()).filter(|run| self.runs.keeps(*run)).collect();
        of_document.sort_unstable();
        of_document.dedup();
        for run in of_document {
            self.runs.add(run);
        }
    }

    /// Documents, copies included.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The SHA-256 of the tokenizer whose ids these are.
    pub fn tokenizer(&self) -> Option<&str> {
        self.tokenizer.as_deref()
    }

    /// How often every document is there, on average.
    fn copies(&self) -> f64 {
        (self.documents as f64 / self.wholes.distinct().max(1.0)).max(1.0)
    }

    /// What a run tells, and whether it was fitted on. That all documents are there six times makes no run common.
    pub(super) fn information(&self, run: u64) -> (f64, bool) {
        let copies = self.copies();
        let documents = self.documents as f64 / copies;
        let count = self.runs.count(run);
        let having = count.map_or(1.0, |count| (f64::from(count) / copies).max(1.0));
        ((1.0 + documents / having).ln(), count.is_some())
    }
}
