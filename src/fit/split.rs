//! Which windows a lens is fitted on, in which order, and which are held out.

use crate::text::Window;

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
pub fn split(windows: &[Window], seed: u64) -> Split {
    let doc = |i: &usize| windows[*i].segments.first().map_or(0, |s| s.doc_id);
    let place = |i: &usize| windows[*i].segments.first().map_or(0, |s| u64::from(s.doc_pos));
    let mut docs: Vec<u64> = (0..windows.len()).map(|i| doc(&i)).collect();
    docs.dedup();
    let (mut train, mut held_out): (Vec<usize>, Vec<usize>);
    let note;
    if docs.len() >= FEW {
        docs.sort_by_key(|d| (draw(seed, *d, 0), *d));
        let mut chosen: Vec<u64> = docs[..docs.len().div_ceil(10)].to_vec();
        chosen.sort_unstable();
        (held_out, train) = (0..windows.len()).partition(|i| chosen.binary_search(&doc(i)).is_ok());
        note = format!("{} of {} documents held out", chosen.len(), docs.len());
    } else {
        let kept = windows.len() - windows.len().div_ceil(10).min(windows.len().saturating_sub(1));
        (train, held_out) = ((0..kept).collect(), (kept..windows.len()).collect());
        note = format!(
            "only {} documents: the last {} of {} windows held out",
            docs.len(),
            held_out.len(),
            windows.len()
        );
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

/// A number that looks random, from a seed and two others (splitmix64, Steele et al. 2014).
pub(crate) fn draw(seed: u64, a: u64, b: u64) -> u64 {
    [a, b].into_iter().fold(seed, |state, x| {
        let mut z = (state ^ x).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Segment;

    fn windows(lengths: &[usize]) -> Vec<Window> {
        let of = |(doc, n): (usize, &usize)| {
            let segment =
                |w| Segment { doc_id: doc as u64, doc_pos: w * 8, doc_len: *n as u32 * 8, offset: 0, len: 8 };
            (0..*n as u32)
                .map(move |w| Window { ids: vec![1; 8], segments: vec![segment(w)] })
                .collect::<Vec<_>>()
        };
        lengths.iter().enumerate().flat_map(of).collect()
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
}
