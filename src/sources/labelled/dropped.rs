//! What reading leaves out, and the rows as the readers hand them over.

use super::noted::{Noted, line};
use super::set::Referent;
use std::collections::BTreeMap;
use std::fmt;

/// What was left out while reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows or words without a label.
    pub unlabelled: Noted,
    /// Rows whose label is a word for a missing one, by the word.
    pub missing: BTreeMap<&'static str, Noted>,
    /// Rows without text.
    pub empty: Noted,
    /// Words that do not have the FEATS or MISC key asked for; they are not expected to.
    pub without_key: Noted,
    /// Sentences whose words are not found in their `# text`, with all of their words.
    pub unaligned: Noted,
    /// Words of a multiword token that do not spell it (French `du` = `de` + `le`): no letters are their own.
    pub contracted: Noted,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<String> = self
            .missing
            .iter()
            .filter_map(|(word, noted)| noted.clause(&format!("labelled {word:?}")))
            .collect();
        let hint = "read as missing: --keep-missing-labels makes classes of such";
        let missing = (!missing.is_empty()).then(|| format!("{}, {hint}", missing.join(", ")));
        let others = [
            self.empty.clause("without text"),
            self.without_key.clause("words without the key"),
            self.unaligned.clause("sentences whose words are not in their text"),
            self.contracted.clause("words inside contractions"),
        ];
        let clauses = [self.unlabelled.clause("without a label"), missing].into_iter().chain(others);
        line(f, "left out", clauses)
    }
}

/// A text as a reader gives it: labels as written, the group by name if it has one.
#[derive(Debug, PartialEq)]
pub(super) struct RawText {
    pub(super) doc_id: u64,
    pub(super) place: String,
    pub(super) text: String,
    pub(super) chat: bool,
    pub(super) group: Option<String>,
    pub(super) targets: Vec<(Referent, String)>,
}

/// What the readers have read so far.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) texts: Vec<RawText>,
    pub(super) dropped: Dropped,
    /// Rows or sentences, those left out included.
    pub(super) documents: u64,
}

impl Raw {
    /// The number of the next row or sentence.
    pub(super) fn next_id(&mut self) -> u64 {
        self.documents += 1;
        self.documents - 1
    }
}
