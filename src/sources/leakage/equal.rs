//! Documents that are equal to an earlier one, token for token: a split keeps them together.

use std::collections::{HashMap, HashSet};

use super::document::{each_document, whole};
use crate::{results::words::counted, sources::text::Window};

/// Which documents of a text are copies of which.
#[derive(Debug, Default)]
pub struct EqualDocuments {
    /// The first document equal to a copy, by the copy.
    first: HashMap<u64, u64>,
    /// The documents that have copies.
    repeated: HashSet<u64>,
}

impl EqualDocuments {
    /// Looks at windows in reading order.
    pub fn of(windows: &[Window]) -> Self {
        let (mut seen, mut equal) = (HashMap::new(), Self::default());
        each_document(windows, &[], |doc, symbols| {
            let earlier = *seen.entry((whole(symbols), symbols.len())).or_insert(doc);
            if earlier != doc {
                equal.first.insert(doc, earlier);
                equal.repeated.insert(earlier);
            }
        });
        equal
    }

    /// The first document that is equal to this one, or itself.
    pub fn first(&self, doc: u64) -> u64 {
        self.first.get(&doc).copied().unwrap_or(doc)
    }

    /// Whether there is an earlier document equal to this one.
    pub fn is_copy(&self, doc: u64) -> bool {
        self.first.contains_key(&doc)
    }

    /// Documents that are equal to an earlier one.
    pub fn copies(&self) -> usize {
        self.first.len()
    }

    /// Whether a document has copies, or is one.
    pub fn repeats(&self, doc: u64) -> bool {
        self.is_copy(doc) || self.repeated.contains(&doc)
    }

    /// `3 documents equal an earlier one`, where there are such.
    pub fn said(&self) -> Option<String> {
        let verb = if self.copies() == 1 { "equals" } else { "equal" };
        (self.copies() > 0).then(|| format!("{} {verb} an earlier one", counted(self.copies(), "document")))
    }
}
