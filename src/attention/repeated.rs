//! Texts of random tokens said twice, on which an induction head shows itself whatever it was trained on.

use super::AttentionError;
use crate::{
    results::draw::draw,
    sources::text::{Segment, Tokenizer, Window},
};

/// Texts to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// Tokens that are said twice.
    pub length: usize,
    /// How many texts; each is a document.
    pub texts: usize,
    /// Of all draws.
    pub seed: u64,
}

/// The texts: `begin` (BOS), `length` ordinary tokens, the same again. The tokens of a text are
/// all different, so that every row of the second half has one key which holds its token and one that follows it:
/// induction there is `A[q, q - length + 1]`, duplicate `A[q, q - length]`. A text's draws depend on the seed and its
/// number alone.
///
/// # Errors
/// [`AttentionError::Vocabulary`].
pub fn repeated(
    of: Repeated,
    tokenizer: &Tokenizer,
    vocabulary: usize,
    begin: &[u32],
) -> Result<Vec<Window>, AttentionError> {
    let ordinary: Vec<u32> = (0..vocabulary as u32).filter(|id| is_ordinary(tokenizer, *id)).collect();
    if of.length > ordinary.len() {
        return Err(AttentionError::Vocabulary { asked: of.length, ordinary: ordinary.len() });
    }
    let text = |number: usize| {
        let tokens = chosen(&ordinary, of.length, of.seed, number as u64);
        let ids = [begin, &tokens, &tokens].concat();
        let len = ids.len() as u32;
        let segment = Segment {
            doc_id: number as u64,
            doc_len: len,
            len,
            doc_added: begin.len() as u32,
            ..Segment::default()
        };
        Window { ids, segments: vec![segment] }
    };
    Ok((0..of.texts).map(text).collect())
}

/// Whether a text may hold it: no special token, and no hole of the vocabulary.
fn is_ordinary(tokenizer: &Tokenizer, id: u32) -> bool {
    !tokenizer.is_special(id) && tokenizer.eos_id() != Some(id) && tokenizer.knows(id)
}

/// So many of them, all different, in random order (the first steps of Fisher and Yates' shuffle).
fn chosen(all: &[u32], n: usize, seed: u64, text: u64) -> Vec<u32> {
    let mut order = all.to_vec();
    for i in 0..n {
        let rest = (order.len() - i) as u64;
        order.swap(i, i + (draw(seed, text, i as u64) % rest) as usize);
    }
    order.truncate(n);
    order
}

/// Per token of such a text, the token that follows where the first half determines it (that of the second half's
/// second token on); -1 elsewhere.
pub fn copied_tokens(window: &Window, length: usize) -> Vec<i64> {
    let n = window.ids.len();
    let first = n - length; // of the second half
    let next = |i: usize| if i >= first && i + 1 < n { i64::from(window.ids[i + 1]) } else { -1 };
    (0..n).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_number_and_repeat_nothing() {
        let all: Vec<u32> = (10..40).collect();
        let one = chosen(&all, 12, 3, 5);
        assert_eq!(one, chosen(&all, 12, 3, 5));
        assert_ne!(one, chosen(&all, 12, 3, 6));
        assert_ne!(one, chosen(&all, 12, 4, 5));
        let mut sorted = one.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == 12 && sorted.iter().all(|id| all.contains(id)));
    }

    #[test]
    fn what_the_first_half_determines() {
        let window = Window { ids: vec![0, 5, 6, 7, 5, 6, 7], segments: vec![] };
        assert_eq!(copied_tokens(&window, 3), [-1, -1, -1, -1, 6, 7, -1]);
    }
}
