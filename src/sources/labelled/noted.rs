//! Things left out: how many, and where the first one stands.

use std::fmt;

/// A count that names its first case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// How many.
    pub count: u64,
    /// Place of the first one, and what it is where that helps.
    pub first: Option<String>,
}

impl Noted {
    pub(super) fn add(&mut self, place: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(place);
    }

    /// `12 words on the moon (first a.csv:3)`, or nothing where there is none.
    pub(super) fn clause(&self, what: &str) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!("{} {what} (first {first})", self.count))
    }
}

/// `heading: a, b` of the clauses that are there, on a line of its own.
pub(super) fn line(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    clauses: impl IntoIterator<Item = Option<String>>,
) -> fmt::Result {
    let clauses: Vec<_> = clauses.into_iter().flatten().collect();
    if clauses.is_empty() { Ok(()) } else { write!(f, "\n{heading:<10} {}", clauses.join(", ")) }
}
