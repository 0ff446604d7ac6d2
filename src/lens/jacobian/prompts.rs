//! Which pieces of a text are prompts.

use crate::{results::draw::draw, sources::text::Window};

/// The prompts of a fit, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// Their places among the windows.
    pub places: Vec<usize>,
    /// Windows that are too short to have a place to read.
    pub short: usize,
}

/// Takes up to `most` of `windows` with more than `skip + 1` tokens: the beginnings of documents first, in an order that
/// is drawn by `seed` and document, then the documents' second windows, and so on. So of many documents each gives one
/// prompt, as in the reference, and a single long one gives as many as it has.
pub fn prompts(windows: &[Window], skip: usize, most: usize, seed: u64) -> Prompts {
    let long = |window: &Window| window.ids.len() > skip + 1;
    let mut places: Vec<(usize, u64, usize)> = Vec::new();
    let (mut doc, mut turn) = (None, 0);
    for (place, window) in windows.iter().enumerate() {
        let own = window.document();
        turn = if doc == Some(own) { turn + 1 } else { 0 };
        doc = Some(own);
        if long(window) {
            places.push((turn, draw(seed, own, turn as u64), place));
        }
    }
    let short = windows.len() - places.len();
    places.sort_unstable();
    Prompts { places: places.into_iter().take(most).map(|(.., place)| place).collect(), short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::Segment;

    fn window(doc_id: u64, length: usize) -> Window {
        Window { ids: vec![1; length], segments: vec![Segment { doc_id, ..Segment::default() }] }
    }

    #[test]
    fn beginnings_come_first() {
        let windows =
            [window(0, 30), window(0, 30), window(1, 30), window(2, 17), window(2, 9), window(3, 18)];
        let all = prompts(&windows, 16, 100, 5);
        let mut first = all.places[..3].to_vec();
        first.sort_unstable();
        assert_eq!((first, &all.places[3..], all.short), (vec![0, 2, 5], &[1][..], 2));
        assert_eq!(prompts(&windows, 16, 2, 5).places, all.places[..2]);
        assert!(prompts(&windows, 40, 9, 5).places.is_empty());
    }
}
