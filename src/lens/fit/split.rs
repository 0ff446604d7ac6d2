//! Which windows a lens is fitted on, in which order, and which are held out.

use std::collections::HashSet;

use crate::{
    results::draw::draw, results::words::counted, sources::leakage::EqualDocuments, sources::text::Window,
};

/// Held-out tokens are enough at this number.
const ENOUGH: usize = 16_384;
/// With fewer documents the end of the text is held out instead.
const FEW: usize = 10;

/// Indices into the windows.
#[derive(Debug)]
pub struct Split {
    /// In fitting order.
    pub train: Vec<usize>,
    /// In reading order.
    pub held_out: Vec<usize>,
    /// What was held out, in words.
    pub note: String,
}

/// Holds out every tenth document, drawn from (seed, document) so that it does not depend on anything else; with fewer
/// than ten documents the last tenth of the windows. The rest is shuffled by window, by the same kind of draw.
///
/// Documents that are equal count as one: copies of what is held out are on neither side.
pub fn split(windows: &[Window], seed: u64) -> Split {
    let equal = EqualDocuments::of(windows);
    let doc = |i: &usize| windows[*i].document();
    let place = |i: &usize| windows[*i].segments.first().map_or(0, |s| u64::from(s.doc_pos));
    let first = |i: &usize| equal.first(doc(i));
    let own = |i: &usize| !equal.is_copy(doc(i));
    let mut docs: Vec<u64> = (0..windows.len()).filter(own).map(|i| doc(&i)).collect();
    docs.dedup();
    let (mut train, mut held_out): (Vec<usize>, Vec<usize>);
    let mut note;
    if docs.len() >= FEW {
        docs.sort_by_key(|d| (draw(seed, *d, 0), *d));
        let mut chosen: Vec<u64> = docs[..docs.len().div_ceil(10)].to_vec();
        chosen.sort_unstable();
        (held_out, train) = (0..windows.len()).partition(|i| chosen.binary_search(&first(i)).is_ok());
        note = format!("{} of {} documents held out", chosen.len(), docs.len());
    } else {
        let mut all: Vec<usize> = (0..windows.len()).filter(own).collect();
        let kept = all.len() - all.len().div_ceil(10).min(all.len().saturating_sub(1));
        let last: HashSet<(u64, u64)> = all.split_off(kept).iter().map(|i| (doc(i), place(i))).collect();
        (held_out, train) = (0..windows.len()).partition(|i| last.contains(&(first(i), place(i))));
        note = format!(
            "only {} documents: the last {} of {} windows held out",
            docs.len(),
            last.len(),
            kept + last.len()
        );
    }
    let copies = held_out.len();
    held_out.retain(own);
    let copies = copies - held_out.len() + without_copies(windows, &equal, &mut train, &held_out);
    if let Some(said) = equal.said() {
        note = format!("{note}; {said}: {} of held-out ones left out", counted(copies, "window"));
    }
    let mut tokens = 0;
    held_out.retain(|i| {
        let take = tokens < ENOUGH;
        tokens += windows[*i].ids.len();
        take
    });
    train.sort_by_key(|i| (draw(seed, doc(i), place(i) + 1), *i));
    Split { train, held_out, note }
}

/// Packed windows hold pieces of several documents: takes those from `train` that hold one of which `held_out` has a
/// copy, and says how many.
fn without_copies(
    windows: &[Window],
    equal: &EqualDocuments,
    train: &mut Vec<usize>,
    held_out: &[usize],
) -> usize {
    if equal.copies() == 0 || windows.iter().all(|w| w.segments.len() < 2) {
        return 0;
    }
    let repeated = |i: &usize| {
        let docs = windows[*i].segments.iter().map(|s| s.doc_id).filter(|doc| equal.repeats(*doc));
        docs.map(|doc| equal.first(doc)).collect::<Vec<u64>>()
    };
    let held: HashSet<u64> = held_out.iter().flat_map(repeated).collect();
    let before = train.len();
    train.retain(|i| !repeated(i).iter().any(|doc| held.contains(doc)));
    before - train.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::Segment;

    fn windows(lengths: &[usize]) -> Vec<Window> {
        let all: Vec<(u32, usize)> = lengths.iter().enumerate().map(|(doc, n)| (doc as u32, *n)).collect();
        of_texts(&all)
    }

    /// Documents by their text, a number that is all of their tokens, and their windows.
    fn of_texts(texts: &[(u32, usize)]) -> Vec<Window> {
        let of = |(doc, (text, n)): (usize, &(u32, usize))| {
            let (n, text) = (*n, *text);
            let segment = move |w| Segment {
                doc_id: doc as u64,
                doc_pos: w * 8,
                doc_len: n as u32 * 8,
                offset: 0,
                len: 8,
                ..Segment::default()
            };
            (0..n as u32).map(move |w| Window { ids: vec![text; 8], segments: vec![segment(w)] })
        };
        texts.iter().enumerate().flat_map(of).collect()
    }

    #[test]
    fn documents_are_never_on_both_sides() {
        let windows = windows(&[3, 1, 2, 5, 1, 1, 4, 2, 2, 1, 3, 1, 2, 2, 1, 6, 1, 2, 1, 1, 2]);
        let split = split(&windows, 0);
        let docs = |side: &[usize]| side.iter().map(|i| windows[*i].segments[0].doc_id).collect::<Vec<_>>();
        assert!(docs(&split.held_out).iter().all(|d| !docs(&split.train).contains(d)));
        assert_eq!(split.train.len() + split.held_out.len(), windows.len());
        assert!(split.note.starts_with("3 of 21 documents"), "{}", split.note);
        assert!(!split.train.is_sorted() && split.held_out.is_sorted());
        let other = super::split(&windows, 1);
        assert!(other.train != split.train);
    }

    #[test]
    fn one_document_gives_its_end() {
        let windows = windows(&[40]);
        let split = split(&windows, 0);
        assert_eq!(split.held_out, [36, 37, 38, 39]);
        assert!(split.note.contains("only 1 documents"));
        assert_eq!(super::split(&windows[..1], 0).train, [0]);
        assert!(super::split(&windows[..1], 0).held_out.is_empty());
    }

    /// The texts on either side.
    fn texts_of(windows: &[Window], side: &[usize]) -> HashSet<u32> {
        side.iter().flat_map(|i| windows[*i].ids.clone()).collect()
    }

    #[test]
    fn copies_are_never_on_both_sides() {
        // Thirty texts, six times each; then the same with the copies beside one another.
        for texts in [(0..180).map(|i| i % 30).collect::<Vec<u32>>(), (0..180).map(|i| i / 6).collect()] {
            let windows = of_texts(&texts.iter().map(|text| (*text, 2)).collect::<Vec<_>>());
            let split = split(&windows, 0);
            let (train, held_out) = (texts_of(&windows, &split.train), texts_of(&windows, &split.held_out));
            assert!(train.is_disjoint(&held_out));
            assert_eq!((train.len(), held_out.len()), (27, 3));
            assert_eq!((split.train.len(), split.held_out.len()), (27 * 12, 6)); // held-out copies say nothing new
            let says = "3 of 30 documents held out; 150 documents equal an earlier one: 30 windows of held-out ones left out";
            assert_eq!(split.note, says);
        }
    }

    #[test]
    fn copies_of_few_documents_keep_the_end_out_of_the_fit() {
        let mut windows = of_texts(&[(0, 20), (0, 20), (0, 20)]);
        for (i, window) in windows.iter_mut().enumerate() {
            window.ids = vec![i as u32 % 20; 8]; // one book of twenty windows, three times
        }
        let split = split(&windows, 0);
        assert_eq!(split.held_out, [18, 19]);
        assert_eq!(texts_of(&windows, &split.train), (0..18).collect());
        assert_eq!(split.train.len(), 54);
        assert!(
            split.note.contains("the last 2 of 20 windows held out; 2 documents equal"),
            "{}",
            split.note
        );
    }

    #[test]
    fn packed_windows_with_copies_of_held_out_documents_are_left_out() {
        // Four documents of four tokens a window; the last twenty windows repeat the first twenty.
        let segment = |doc: u64, offset| Segment {
            doc_id: doc,
            doc_pos: 0,
            doc_len: 4,
            offset,
            len: 4,
            ..Segment::default()
        };
        let window = |i: u64| Window {
            ids: (0..4).flat_map(|k| [(4 * i + k) as u32 % 83; 4]).collect(),
            segments: (0..4).map(|k| segment(4 * i + k, 4 * k as u32)).collect(),
        };
        let windows: Vec<Window> = (0..40).map(window).collect();
        for seed in 0..4 {
            let split = split(&windows, seed);
            assert!(!split.held_out.is_empty() && split.train.len() > 10);
            assert!(texts_of(&windows, &split.train).is_disjoint(&texts_of(&windows, &split.held_out)));
        }
    }
}
