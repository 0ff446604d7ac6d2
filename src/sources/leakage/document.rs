//! A document as a row of symbols, and its hashes.

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use crate::{results::run::BosRecord, sources::text::Window};

/// The words of a text as symbols: lower case, split at white space.
pub fn words(text: &str) -> Vec<u32> {
    let word = |word: &str| XxHash64::oneshot(0, word.to_lowercase().as_bytes()) as u32;
    text.split_whitespace().map(word).collect()
}

/// Hash of a whole document.
pub(super) fn whole(symbols: &[u32]) -> u64 {
    hash(1, symbols)
}

/// Hashes of the runs of `len` symbols; of a shorter document, of all of it.
pub(super) fn runs(symbols: &[u32], len: usize) -> impl Iterator<Item = u64> {
    symbols.windows(len.min(symbols.len()).max(1)).map(|run| hash(2, run))
}

fn hash(seed: u64, symbols: &[u32]) -> u64 {
    let mut hash = XxHash64::with_seed(seed);
    for symbol in symbols {
        hash.write(&symbol.to_le_bytes());
    }
    hash.finish()
}

/// Hands `f` the documents of `windows` (in reading order) one after another, each with its number and without tokens
/// of `lead` in front. Where windows of a document are missing, it is its pieces.
pub fn each_document<'w>(
    windows: impl IntoIterator<Item = &'w Window>,
    lead: &[u32],
    mut f: impl FnMut(u64, &[u32]),
) {
    let mut give = |doc: u64, ids: &[u32], from: u32| {
        let skip = if from == 0 { ids.iter().take_while(|id| lead.contains(id)).count() } else { 0 };
        if skip < ids.len() {
            f(doc, &ids[skip..]);
        }
    };
    let (mut ids, mut doc, mut from) = (Vec::new(), 0, 0);
    for window in windows {
        for segment in &window.segments {
            let goes_on = doc == segment.doc_id && from + ids.len() as u32 == segment.doc_pos;
            if !goes_on {
                give(doc, &ids, from);
                ids.clear();
                (doc, from) = (segment.doc_id, segment.doc_pos);
            }
            let start = segment.offset as usize;
            ids.extend_from_slice(&window.ids[start..start + segment.len as usize]);
        }
    }
    give(doc, &ids, from);
}

/// The tokens that may have been put in front of a document, of a manifest's note of BOS and the tokenizer's EOS
/// (packing).
pub fn lead_of(bos: Option<&BosRecord>, eos: Option<u32>) -> Vec<u32> {
    let bos = bos.into_iter().flat_map(|bos| bos.id.iter().chain(&bos.prefix));
    bos.copied().chain(eos).collect()
}
