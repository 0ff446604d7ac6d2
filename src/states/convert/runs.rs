//! Rows of an export in runs of consecutive tokens that went through the model together.

use super::{Conversion, ConvertError};
use crate::{results::run::Manifest, states::store::RowIds};

/// Where a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of a window; none: a document is one.
    window: Option<usize>,
    /// Windows are of joined documents, so that a run may have several.
    packed: bool,
    /// Tokens of a run at most.
    most: Option<usize>,
}

/// How long runs are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Runs.
    pub runs: u64,
    /// Tokens of the longest.
    pub longest: usize,
}

/// Who a row is.
#[derive(Clone, Copy)]
struct Place {
    row: u64,
    doc: u64,
    pos: u32,
}

impl Cut {
    /// The windows of an export, by its manifest: those of the pass that made it.
    pub fn of(manifest: &Manifest) -> Self {
        let window = manifest.config.get("seq_len").and_then(serde_json::Value::as_u64).map(|n| n as usize);
        let packed = manifest.config.get("pack").and_then(serde_json::Value::as_bool) == Some(true);
        Self { window: window.filter(|n| *n > 0), packed, most: None }
    }

    /// The same, with runs of `most` tokens at most.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }

    /// Tokens of a window.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Whether `next` goes on where a run of `len` tokens ends with `last`.
    fn joins(self, last: Place, next: Place, len: usize) -> bool {
        let room = self.most.is_none_or(|most| len < most);
        let begins = |number: u64| self.window.is_some_and(|window| number.is_multiple_of(window as u64));
        room && if self.packed {
            !begins(next.row)
        } else {
            next.doc == last.doc && next.pos == last.pos + 1 && !begins(next.pos.into())
        }
    }

    /// How long the runs of these rows are.
    pub fn lengths(self, ids: &RowIds) -> Lengths {
        let mut found = Lengths::default();
        let (mut last, mut len) = (None, 0);
        for row in 0..ids.len() {
            let next = place(ids, row);
            if last.is_some_and(|last| self.joins(last, next, len)) {
                len += 1;
            } else {
                (len, found.runs) = (1, found.runs + 1);
            }
            found.longest = found.longest.max(len);
            last = Some(next);
        }
        found
    }
}

fn place(ids: &RowIds, row: usize) -> Place {
    Place { row: ids.row_id[row], doc: ids.doc_id[row], pos: ids.pos[row] }
}

/// Consecutive tokens.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) ids: Vec<u32>,
    /// By column, row after row.
    pub(super) acts: Vec<Vec<f32>>,
}

/// Hands `visit` every run in order; one may lie in several shards.
pub(super) fn each(
    conversion: &Conversion<'_>,
    visit: &mut dyn FnMut(&Run) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let (cut, columns) = (conversion.cut, conversion.columns);
    let mut run = Run { ids: Vec::new(), acts: vec![Vec::new(); columns.len()] };
    let mut last = None;
    for part in conversion.store.parts(columns) {
        let part = part?;
        for row in 0..part.ids.len() {
            let next = place(&part.ids, row);
            if last.is_some_and(|last| !cut.joins(last, next, run.ids.len())) {
                visit(&run)?;
                run.ids.clear();
                run.acts.iter_mut().for_each(Vec::clear);
            }
            run.ids.push(part.ids.token_id[row]);
            for (own, act) in run.acts.iter_mut().zip(&part.acts) {
                own.extend(act.row(row));
            }
            last = Some(next);
        }
        conversion.done(part.ids.len())?;
    }
    if run.ids.is_empty() { Ok(()) } else { visit(&run) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(places: &[(u64, u32)]) -> RowIds {
        let mut ids = RowIds::default();
        places.iter().enumerate().for_each(|(row, (doc, pos))| ids.push(row as u64, *doc, *pos, 0));
        ids
    }

    #[test]
    fn runs_end_with_windows_documents_and_gaps() {
        // Document 0 of 5 tokens, document 1 of 2, document 2 without its first.
        let rows = ids(&[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (2, 1), (2, 2), (2, 4)]);
        let whole = Cut { window: None, packed: false, most: None };
        assert_eq!(whole.lengths(&rows), Lengths { runs: 4, longest: 5 });
        // Windows of 3: 0-2, 3-4 | 0-1 | 1-2 | 4.
        let windows = Cut { window: Some(3), ..whole };
        assert_eq!(windows.lengths(&rows), Lengths { runs: 5, longest: 3 });
        assert_eq!(windows.at_most(2).lengths(&rows), Lengths { runs: 6, longest: 2 });
        // Packed: rows 0-3, 4-7, 8-9, whoever they are of.
        let packed = Cut { window: Some(4), packed: true, most: None };
        assert_eq!(packed.lengths(&rows), Lengths { runs: 3, longest: 4 });
        assert_eq!(whole.lengths(&ids(&[])), Lengths::default());
    }
}
