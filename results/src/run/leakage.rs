//! What a manifest says of leakage: whether what is measured was fitted on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::{counted, plural};

/// What the symbols of documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Token ids of one tokenizer.
    Tokens,
    /// Words, in lower case, split at white space.
    Words,
}

impl Basis {
    /// Symbols of a run. Six tokens leave half of a line of text after its lines were shuffled, and unrelated stories
    /// of one author have next to no passage in common; labelled texts are short, and have three words of a run.
    pub fn run(self) -> usize {
        match self {
            Self::Tokens => 6,
            Self::Words => 3,
        }
    }

    /// Symbols from which on two equal documents are no coincidence. Labelled texts are what a probe is fitted to,
    /// however short they are; a paragraph of a few tokens can be in any book.
    pub fn telling(self) -> usize {
        match self {
            Self::Tokens => 16,
            Self::Words => 1,
        }
    }

    /// Share of the documents from which on near ones are named: less is what unrelated short texts share by chance.
    pub fn named(self) -> f64 {
        match self {
            Self::Tokens => 0.0,
            Self::Words => 0.05,
        }
    }
}

/// Documents, and what of them was fitted on. A row is what is measured: a token of a text, an item of labelled data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Documents that were compared.
    pub documents: u64,
    /// Those of which a hash could be looked up: all, unless the fit was on more than a million.
    pub looked_up: u64,
    /// Equal to one that was fitted on.
    pub identical: u64,
    /// Not equal, but half or more of what they tell was fitted on.
    pub near: u64,
    /// Rows of the documents.
    pub rows: u64,
    /// Rows of equal documents and of passages that were fitted on.
    pub seen_rows: u64,
    /// Whether this is more than a coincidence of short texts.
    pub leaks: bool,
}

/// Something fitted, held against what it is measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leakage {
    /// What was fitted: a lens, a probe, a side of a split.
    pub fitted: String,
    /// What it is measured on.
    pub measured: String,
    /// What documents and rows are.
    pub basis: Basis,
    /// What of it was fitted on; none where that could not be compared.
    pub overlap: Option<Overlap>,
    /// A file that it was fitted on and is measured on, where files are all that can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why it could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Leakage {
    /// What was compared.
    pub fn found(fitted: impl Into<String>, measured: &str, basis: Basis, overlap: Overlap) -> Self {
        Self {
            fitted: fitted.into(),
            measured: measured.into(),
            basis,
            overlap: Some(overlap),
            file: None,
            unknown: None,
        }
    }

    /// What could not be compared.
    pub fn unknown(fitted: impl Into<String>, measured: &str, basis: Basis, why: impl Into<String>) -> Self {
        Self {
            fitted: fitted.into(),
            measured: measured.into(),
            basis,
            overlap: None,
            file: None,
            unknown: Some(why.into()),
        }
    }

    /// Whether what was fitted has seen what it is measured on.
    pub fn leaks(&self) -> bool {
        self.file.is_some() || self.overlap.is_some_and(|overlap| overlap.leaks)
    }
}

impl fmt::Display for Leakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fitted, measured, basis, overlap, file, unknown } = self;
        let (document, row) = match basis {
            Basis::Tokens => ("document", "token"),
            Basis::Words => ("text", "item"),
        };
        let Some(o) = overlap else {
            if let Some(file) = file {
                return write!(f, "{fitted} was fitted on {file}: its numbers here are in-sample");
            }
            let why = unknown.as_deref().unwrap_or("it was not compared");
            return write!(f, "whether {fitted} has seen {measured} cannot be said: {why}");
        };
        let all = counted(o.documents, document);
        if o.seen_rows == 0 && o.identical == 0 && o.near == 0 {
            return write!(f, "{fitted} has not seen {measured}: none of {all} was fitted on");
        }
        let has = if o.leaks { "has seen" } else { "shares only short coincidences with" };
        write!(f, "{fitted} {has} {measured}: {} of {all} equal to one it was fitted on", o.identical)?;
        if o.looked_up < o.documents {
            write!(f, " ({} could be looked up)", o.looked_up)?;
        }
        if o.near > 0 {
            write!(f, ", {} nearly so", o.near)?;
        }
        let share = 100.0 * o.seen_rows as f64 / o.rows.max(1) as f64;
        write!(f, "; {share:.1} % of the {} ({} of {})", plural(row), o.seen_rows, o.rows)?;
        if o.leaks { write!(f, ". Numbers of these are in-sample, and too good") } else { Ok(()) }
    }
}
