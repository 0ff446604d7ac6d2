//! Which tokens of a text are hidden from an encoder, to be read there.

use std::collections::BTreeSet;

use crate::{
    results::draw::{draw, uniform},
    sources::text::{Tokenizer, Window},
};

/// Share of the tokens that BERT was trained on (Devlin et al. 2019); every one of them is hidden here, none is
/// changed.
pub const SHARE: f64 = 0.15;

/// Which positions of an encoder are read, each behind the mask token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Masking {
    /// Every token in turn, all others in sight (Salazar et al. 2020): a pass for each.
    All,
    /// 15 % of the tokens at once, drawn by (seed, document, position); at least one of every window.
    Random,
}

/// Hides tokens behind the mask token.
#[derive(Debug, Clone)]
pub struct Masker {
    masking: Masking,
    mask: u32,
    special: BTreeSet<u32>,
    seed: u64,
}

impl Masker {
    /// Of the texts of `tokenizer`, whose special tokens are never hidden; none where it has no mask token.
    pub fn new(masking: Masking, tokenizer: &Tokenizer, seed: u64) -> Option<Self> {
        let special = (0..=tokenizer.max_id()).filter(|id| tokenizer.is_special(*id)).collect();
        Some(Self { masking, mask: tokenizer.mask_id()?, special, seed })
    }

    /// Which tokens are hidden.
    pub fn masking(&self) -> Masking {
        self.masking
    }

    /// The places of a window that are read, ascending.
    pub fn places(&self, window: &Window) -> Vec<usize> {
        let own = |place: &usize| !self.special.contains(&window.ids[*place]);
        let all: Vec<usize> = (0..window.ids.len()).filter(own).collect();
        if self.masking == Masking::All {
            return all;
        }
        let key = |place: usize| key(window, place);
        let first = all.iter().copied().min_by_key(|place| {
            let (doc, pos) = key(*place);
            draw(self.seed, doc, pos)
        });
        let chosen = |place: &usize| {
            let (doc, pos) = key(*place);
            Some(*place) == first || uniform(self.seed, doc, pos) < SHARE
        };
        all.into_iter().filter(chosen).collect()
    }

    /// What is run for a window, with the places that are read of it.
    pub(super) fn passes(&self, window: &Window) -> Vec<(Vec<u32>, Vec<usize>)> {
        let places = self.places(window);
        let hidden = |places: &[usize]| {
            let mut ids = window.ids.clone();
            for place in places {
                ids[*place] = self.mask;
            }
            (ids, places.to_vec())
        };
        match self.masking {
            Masking::All => places.chunks(1).map(hidden).collect(),
            Masking::Random if places.is_empty() => Vec::new(),
            Masking::Random => vec![hidden(&places)],
        }
    }
}

/// Document and position of a place of a window.
fn key(window: &Window, place: usize) -> (u64, u64) {
    let of = window.segments.iter().rfind(|s| s.offset as usize <= place);
    of.map_or((0, place as u64), |s| (s.doc_id, u64::from(s.doc_pos) + (place as u64 - u64::from(s.offset))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::Segment;

    fn masker(masking: Masking) -> Masker {
        Masker { masking, mask: 9, special: BTreeSet::from([0, 1, 9]), seed: 3 }
    }

    /// [CLS] tokens [SEP] of a document, from a place in it on.
    fn window(doc_pos: u32, tokens: u32) -> Window {
        let ids: Vec<u32> = std::iter::once(0).chain(20..20 + tokens).chain([1]).collect();
        let len = ids.len() as u32;
        let segment = Segment { doc_id: 7, doc_pos, doc_len: len, len, ..Segment::default() };
        Window { ids, segments: vec![segment] }
    }

    #[test]
    fn every_token_in_turn_alone_behind_the_mask() {
        let passes = masker(Masking::All).passes(&window(0, 3));
        assert_eq!(passes.len(), 3);
        for (i, (ids, places)) in passes.iter().enumerate() {
            assert_eq!(places, &[i + 1]);
            assert_eq!(ids.iter().filter(|id| **id == 9).count(), 1);
            assert_eq!(ids[i + 1], 9);
        }
    }

    #[test]
    fn a_share_at_once_that_depends_on_document_and_position_alone() {
        let random = masker(Masking::Random);
        let long = window(0, 4000);
        let places = random.places(&long);
        let share = places.len() as f64 / 4000.0;
        // Four standard deviations of a binomial share are 0.023.
        assert!((share - SHARE).abs() < 0.023, "{share}");
        let (ids, read) = random.passes(&long).remove(0);
        assert!(read == places && read.iter().all(|place| ids[*place] == 9));
        // The same tokens in a window that begins later, but for the one that is always drawn.
        let late = Window { ids: long.ids[2000..].to_vec(), ..window(2000, 1) };
        let shifted: Vec<usize> = places.iter().filter(|p| **p >= 2000).map(|p| p - 2000).collect();
        let own = random.places(&late);
        assert!(own.iter().filter(|p| !shifted.contains(p)).count() <= 1 && own.len() >= shifted.len());
        assert_ne!(places, Masker { seed: 4, ..random.clone() }.places(&long));
        // A short one has one.
        assert_eq!(random.places(&window(0, 1)), [1]);
        assert!(random.passes(&window(0, 0)).is_empty(), "nothing but the template");
    }
}
