//! Which tokens spell a span of a text, by the bytes that each token covers.
//!
//! A token counts by its ink: the bytes it covers without the space around them, so that ` word` is a piece of `word`
//! alone. Tokens that are bytes of one character all cover that character; all of them are pieces of it. A token
//! across two words (`don` in `do|n't`) is a piece of both.

use crate::sources::text::Tokenizer;
use crate::sources::text::long::Placed;
use std::ops::Range;

/// The ink of a text's tokens, in order; empty for tokens of space alone.
pub(super) struct Ink(Vec<Range<usize>>);

impl Ink {
    pub(super) fn new(text: &str, tokens: &[Placed], tokenizer: &Tokenizer) -> Self {
        let mut end = 0;
        let ink = |token: &Placed| {
            let range = ink_of(text, token, tokenizer).unwrap_or(end..end);
            end = range.end;
            range
        };
        Self(tokens.iter().map(ink).collect())
    }

    /// The tokens that have ink in `span`; none where the tokenizer has dropped these characters.
    pub(super) fn pieces(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let first = self.0.partition_point(|ink| ink.end <= span.start);
        let mut behind = self.0.partition_point(|ink| ink.start < span.end);
        while behind > first && self.0[behind - 1].is_empty() {
            behind -= 1;
        }
        (first < behind).then_some(first..behind)
    }

    /// Where the tokens' ink ends.
    pub(super) fn end(&self) -> usize {
        self.0.last().map_or(0, |ink| ink.end)
    }

    /// Whether a token is space alone.
    pub(super) fn is_blank(&self, token: usize) -> bool {
        self.0[token].is_empty()
    }
}

/// The ink of one token, if it has any. A sentencepiece `▁` that was put before the text claims the first character and
/// is space nevertheless.
fn ink_of(text: &str, token: &Placed, tokenizer: &Tokenizer) -> Option<Range<usize>> {
    let covered = text.get(token.start..token.end)?;
    let start = token.end - covered.trim_start().len();
    let end = token.start + covered.trim_end().len();
    let one = covered.chars().count() == 1;
    let spells_space = || tokenizer.piece(token.id).text.trim().is_empty();
    (start < end && !(one && spells_space())).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::BosPolicy;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
    }

    fn load(name: &str) -> Tokenizer {
        Tokenizer::load(&folder(name), BosPolicy::Never).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The text that the pieces of `word` in `text` decode to.
    fn spelled(tokenizer: &Tokenizer, text: &str, word: &str) -> String {
        let placed = tokenizer.encode_placed(text, usize::MAX).unwrap();
        let at = text.find(word).unwrap();
        let pieces = Ink::new(text, &placed, tokenizer).pieces(&(at..at + word.len())).unwrap();
        let ids: Vec<_> = placed[pieces].iter().map(|token| token.id).collect();
        tokenizer.decode(&ids).unwrap()
    }

    #[test]
    fn byte_level_pieces_spell_their_word() {
        let tokenizer = load("gpt2-alice-8l");
        let text = "Naïve Łódź, “don't” said 日本語 🙂🙃 to\u{3000}the  café\n\nend.";
        for word in ["Naïve", "Łódź", "said", "日本語", "🙂🙃", "🙂", "🙃", "the", "café", "end", "."]
        {
            let got = spelled(&tokenizer, text, word);
            assert_eq!(got.trim().trim_start_matches('\u{FFFD}'), word, "{got:?}");
        }
        assert!(spelled(&tokenizer, text, "don't").contains("don't"));
        assert!(spelled(&tokenizer, text, "n't").ends_with("'t"), "the piece before 't is shared with `do`");
    }

    /// `fixtures/probes/offsets.json`: the pieces of every word by the tokenizers of Python, over every kind of
    /// tokenizer.
    #[test]
    fn pieces_are_those_of_the_python_offsets() {
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder("probes/offsets.json")).unwrap()).unwrap();
        let mut words = 0;
        for (name, texts) in golden.as_object().unwrap() {
            let tokenizer = load(name);
            for row in texts.as_array().unwrap() {
                let text = row["text"].as_str().unwrap();
                let placed = tokenizer.encode_placed(text, usize::MAX).unwrap();
                let ink = Ink::new(text, &placed, &tokenizer);
                for word in row["words"].as_array().unwrap() {
                    let number = |i: usize| word[i].as_u64().map(|n| n as usize);
                    let span = number(0).unwrap()..number(1).unwrap();
                    let expected = number(2).zip(number(3)).map(|(first, last)| first..last + 1);
                    assert_eq!(ink.pieces(&span), expected, "{name}: {text:?} {span:?}");
                    words += 1;
                }
            }
        }
        assert!(words > 200, "{words}");
    }

    #[test]
    fn space_is_no_piece_of_a_word() {
        let tokenizer = load("gpt2-alice-8l");
        let text = "a  \n b ";
        let placed = tokenizer.encode_placed(text, usize::MAX).unwrap();
        let ink = Ink::new(text, &placed, &tokenizer);
        assert_eq!(ink.pieces(&(1..4)), None);
        assert_eq!(ink.pieces(&(0..1)), Some(0..1));
        let b = ink.pieces(&(5..6)).unwrap();
        assert_eq!(b.len(), 1);
        assert!(ink.is_blank(placed.len() - 1));
    }
}
