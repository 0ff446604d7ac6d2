//! Encoding a document too long to encode in one piece.
//!
//! The tokenizer needs some hundred bytes of working memory per byte of text and one thread, so a 100 MB text is cut
//! into pieces that overlap. Where two neighbours give the same tokens over half of their overlap they have forgotten
//! where they began and ended, and they are joined at a token that touches whitespace. If some pair never agrees
//! (megabytes without a space, say) the whole text is encoded at once instead: slower, never different.

use super::guarded::Guarded;

/// Texts up to this many bytes are encoded in one go.
pub(super) const LONG: usize = 1 << 19;

/// How a long text is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Bytes between two cuts.
    pub(super) piece: usize,
    /// Bytes that a piece reaches beyond its cuts, on both sides.
    pub(super) context: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self { piece: 1 << 17, context: 1 << 11 }
    }
}

/// A token and the bytes of the text it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The tokens of `text` with their places: all of them, or at least the first `limit` if there are so many.
/// The tokenizer has no post-processor, because some of them move the places. An error is what the tokenizer said.
pub(super) fn encode_long(
    tokenizer: &Guarded,
    text: &str,
    limit: usize,
    cut: Cut,
) -> Result<Vec<Placed>, String> {
    let cuts = cuts(text, cut.piece);
    let mut placed: Vec<Placed> = Vec::new();
    let mut last: Option<Vec<Placed>> = None;
    let mut at = 0;
    let wave = 4 * rayon::current_num_threads();
    for (w, bounds) in pieces(text, &cuts, cut.context).chunks(wave).enumerate() {
        for (i, piece) in encode_pieces(tokenizer, text, bounds)?.into_iter().enumerate() {
            if let Some(before) = last.take() {
                let Some(join) = join(text, &before, &piece, cuts[w * wave + i], cut.context / 2) else {
                    return Ok(encode_pieces(tokenizer, text, &[(0, text.len())])?.concat());
                };
                placed.extend(before.iter().filter(|token| token.start >= at && token.start < join));
                at = join;
            }
            last = Some(piece);
        }
        if placed.len() >= limit {
            return Ok(placed);
        }
    }
    placed.extend(last.unwrap_or_default().iter().filter(|token| token.start >= at));
    Ok(placed)
}

/// The tokens of pieces of `text`, placed in the text.
fn encode_pieces(
    tokenizer: &Guarded,
    text: &str,
    bounds: &[(usize, usize)],
) -> Result<Vec<Vec<Placed>>, String> {
    let pieces = bounds.iter().map(|&(start, end)| text[start..end].to_owned()).collect();
    let mut placed = tokenizer.placed(pieces).map_err(|trouble| trouble.message)?;
    for (tokens, (start, _)) in placed.iter_mut().zip(bounds) {
        for token in tokens {
            token.start += start;
            token.end += start;
        }
    }
    Ok(placed)
}

/// Where pieces begin: at 0 and near every multiple of `piece`, never inside a character.
fn cuts(text: &str, piece: usize) -> Vec<usize> {
    (0..text.len().max(1)).step_by(piece).map(|at| char_start(text, at)).collect()
}

/// The start of the character that byte `at` is in.
fn char_start(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The pieces between the cuts, each reaching `context` bytes into its neighbours.
fn pieces(text: &str, cuts: &[usize], context: usize) -> Vec<(usize, usize)> {
    let ends = cuts[1..].iter().copied().chain([text.len()]);
    cuts.iter()
        .zip(ends)
        .map(|(&start, end)| {
            let from = char_start(text, start.saturating_sub(context));
            (from, char_start(text, (end + context).min(text.len())))
        })
        .collect()
}

/// The place near `cut` where `right` can take over from `left`: both have the same tokens up to `reach` bytes on
/// both sides of the cut, and a token begins there beside whitespace.
fn join(text: &str, left: &[Placed], right: &[Placed], cut: usize, reach: usize) -> Option<usize> {
    let near = |tokens: &[Placed]| -> Vec<Placed> {
        let inside = |token: &&Placed| token.start + reach >= cut && token.end <= cut + reach;
        tokens.iter().filter(inside).copied().collect()
    };
    let (left, right) = (near(left), near(right));
    if left != right {
        return None;
    }
    let begins = |pair: &[Placed]| (pair[1].start >= pair[0].end).then_some(pair[1].start);
    left.windows(2).filter_map(begins).find(|&at| {
        let before = text[..at].chars().next_back();
        let after = text[at..].chars().next();
        at >= cut && [before, after].into_iter().flatten().any(char::is_whitespace)
    })
}
