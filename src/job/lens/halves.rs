//! One half of a text to learn from, the other to measure on.

use std::collections::HashMap;

use crate::{
    job::{Cluster, JobError},
    sources::leakage::EqualDocuments,
    sources::text::Window,
};

/// Places of the windows that moments are taken from, and of those that are measured on.
pub(super) struct Halves {
    pub(super) moments: Vec<usize>,
    pub(super) measured: Vec<usize>,
    /// What was done about equal documents.
    pub(super) note: Option<String>,
}

impl Halves {
    /// Every other document (of one document: every other window). Copies of a document are on its side.
    pub(super) fn of(windows: &[Window], cluster: Cluster) -> Result<Self, JobError> {
        let equal = EqualDocuments::of(windows);
        let (doc, place) = (|i: usize| first(&windows[i]).0, |i: usize| first(&windows[i]).1);
        let several = (1..windows.len()).any(|i| equal.first(doc(i)) != equal.first(doc(0)));
        let whole = several && cluster == Cluster::Document;
        let mut numbers = HashMap::new();
        let mut by = |i: &usize| match (equal.copies() > 0, whole) {
            (false, true) => doc(*i),
            (false, false) => *i as u64,
            (true, whole) => {
                let next = numbers.len() as u64;
                *numbers.entry((equal.first(doc(*i)), if whole { 0 } else { place(*i) })).or_insert(next)
            }
        };
        let (moments, measured): (Vec<usize>, Vec<usize>) = (0..windows.len()).partition(|i| by(i) % 2 == 1);
        if moments.is_empty() || measured.is_empty() {
            return Err(JobError::usage(
                "the text has one window: nothing is left to take moments from; give more text",
            ));
        }
        let note = equal.said().map(|said| format!("{said}: kept in the half of that one"));
        Ok(Self { moments, measured, note })
    }
}

/// Document and place of a window's first token.
fn first(window: &Window) -> (u64, u32) {
    window.segments.first().map_or((0, 0), |s| (s.doc_id, s.doc_pos))
}

#[cfg(test)]
mod tests {
    use crate::sources::text::Segment;

    use super::*;

    /// Documents by their text, a number that is both of their tokens, in two windows each.
    fn windows(texts: &[u32]) -> Vec<Window> {
        let of = |(doc, text): (usize, &u32)| {
            let text = *text;
            [0, 1].map(|pos| Window {
                ids: vec![10 * text + pos],
                segments: vec![Segment {
                    doc_id: doc as u64,
                    doc_pos: pos,
                    doc_len: 2,
                    offset: 0,
                    len: 1,
                    ..Segment::default()
                }],
            })
        };
        texts.iter().enumerate().flat_map(of).collect()
    }

    fn halves(texts: &[u32], cluster: Cluster) -> [Vec<u32>; 2] {
        let windows = windows(texts);
        let halves = Halves::of(&windows, cluster).unwrap_or_else(|_| panic!("there are two halves"));
        [&halves.moments, &halves.measured].map(|half| half.iter().map(|i| windows[*i].ids[0]).collect())
    }

    #[test]
    fn every_other_document_and_of_one_every_other_window() {
        assert_eq!(halves(&[1, 2, 3], Cluster::Document), [vec![20, 21], vec![10, 11, 30, 31]]);
        assert_eq!(halves(&[1, 2], Cluster::Window), [vec![11, 21], vec![10, 20]]);
        assert_eq!(halves(&[1], Cluster::Document), [vec![11], vec![10]]);
    }

    #[test]
    fn copies_are_in_one_half() {
        let of = [vec![20, 21, 20, 21], vec![10, 11, 10, 11, 30, 31]];
        assert_eq!(halves(&[1, 1, 2, 2, 3], Cluster::Document), of);
        assert_eq!(halves(&[1, 1], Cluster::Document), [vec![11, 11], vec![10, 10]]);
        assert_eq!(halves(&[1, 1, 2], Cluster::Window), [vec![11, 11, 21], vec![10, 10, 20]]);
    }
}
