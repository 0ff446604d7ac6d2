//! What was found, in one sentence and for the manifest.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Basis, FittedOn, Overlap};
use crate::{
    text::Window,
    words::{counted, plural},
};

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

/// Whether the measured side of a split holds documents that the fitted side has, nearly or in part: equal ones a split
/// keeps together. Windows by their place in `windows`.
pub fn across(
    windows: &[Window],
    fitted: &[usize],
    measured: &[usize],
    (lead, names): (&[u32], (&str, &str)),
) -> Leakage {
    let side = |places: &[usize]| {
        let mut places = places.to_vec();
        places.sort_unstable();
        places.into_iter().map(|place| &windows[place])
    };
    let sketch = FittedOn::of_windows(side(fitted), lead, None);
    let overlap = sketch.overlap_of_windows(side(measured), lead);
    Leakage::found(names.0, names.1, Basis::Tokens, overlap)
}
