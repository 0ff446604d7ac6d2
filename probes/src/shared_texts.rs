//! Texts that stand on both sides of a split: what a group should have kept together.
//!
//! Two checks. The same text, but for case and white space. And nearly the same text: a row of a later part half or
//! more of whose information, Σ ln(n / rows with the word) over its words, is in one row of an earlier part. So two
//! statements about one city are near each other, and the template all statements share counts nothing.

use std::collections::HashMap;
use std::fmt;

/// Words in more rows than this are not looked up: they cannot carry half of a text.
const COMMON: usize = 64;

/// Near texts are named from this share of the later parts' rows on; less is what unrelated short texts share by
/// chance.
const NAMED: f64 = 0.05;

/// Texts on more than one side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedTexts {
    /// Rows of later parts whose text is in an earlier part too.
    pub same: usize,
    /// Rows of later parts that are near a row of an earlier part without being the same.
    pub near: usize,
    /// Rows of later parts.
    pub of: usize,
    /// A row of an earlier part and its like in a later one.
    pub example: (usize, usize),
}

impl fmt::Display for SharedTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { same, near, of, example: (a, b) } = self;
        let also = format!("{same} of {of} held-out texts are also in an earlier part");
        let found = match (same, near) {
            (_, 0) => also,
            (0, _) => format!("{near} of {of} held-out texts are nearly in an earlier part as well"),
            _ => format!("{also} and {near} are nearly so"),
        };
        write!(
            f,
            "{found} (rows {a} and {b}): scores will be too good unless a group keeps such rows together"
        )
    }
}

/// Compares `texts` (one per row) across `parts` (rows of train, validation, test, in this order); none when nothing is
/// worth a warning. Rows that are in no part are left out.
pub fn shared_texts<T: AsRef<str>>(texts: &[T], parts: &[&[usize]]) -> Option<SharedTexts> {
    let words: Vec<Vec<String>> = texts.iter().map(|text| words(text.as_ref())).collect();
    let seen = Seen::new(&words);
    let mut part_of = vec![usize::MAX; texts.len()];
    for (part, rows) in parts.iter().enumerate() {
        rows.iter().filter(|&&row| row < texts.len()).for_each(|&row| part_of[row] = part);
    }
    let (mut same, mut near, mut of, mut examples) = (0, 0, 0, [None, None]);
    for (row, &part) in part_of.iter().enumerate().filter(|&(_, &part)| part != 0 && part != usize::MAX) {
        of += 1;
        if let Some(other) = seen.same(&words, row).find(|&other| part_of[other] < part) {
            same += 1;
            examples[0].get_or_insert((other, row));
        } else if let Some(other) = seen.near(&words, row, |other| part_of[other] < part) {
            near += 1;
            examples[1].get_or_insert((other, row));
        }
    }
    if (near as f64) < NAMED * of as f64 {
        near = 0;
        examples[1] = None;
    }
    examples[0].or(examples[1]).map(|example| SharedTexts { same, near, of, example })
}

/// Lower case, split at white space.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase().split_whitespace().map(str::to_owned).collect()
}

/// Where texts and words are.
struct Seen<'a> {
    rows_of_text: HashMap<&'a [String], Vec<usize>>,
    rows_of_word: HashMap<&'a str, Vec<usize>>,
    n: f64,
}

impl<'a> Seen<'a> {
    fn new(words: &'a [Vec<String>]) -> Self {
        let (mut rows_of_text, mut rows_of_word) = (HashMap::new(), HashMap::new());
        for (row, words) in words.iter().enumerate() {
            rows_of_text.entry(words.as_slice()).or_insert_with(Vec::new).push(row);
            for word in distinct(words) {
                rows_of_word.entry(word).or_insert_with(Vec::new).push(row);
            }
        }
        Self { rows_of_text, rows_of_word, n: words.len() as f64 }
    }

    fn same(&self, words: &[Vec<String>], row: usize) -> impl Iterator<Item = usize> {
        self.rows_of_text.get(words[row].as_slice()).into_iter().flatten().copied()
    }

    /// The first row within `among` that has half or more of this row's information.
    fn near(&self, words: &[Vec<String>], row: usize, among: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut all, mut common) = (0.0, HashMap::new());
        for word in distinct(&words[row]) {
            let rows = self.rows_of_word.get(word).map_or(&[][..], Vec::as_slice);
            let information = (self.n / rows.len() as f64).ln();
            all += information;
            if rows.len() <= COMMON {
                for &other in rows.iter().filter(|&&other| among(other)) {
                    *common.entry(other).or_insert(0.0) += information;
                }
            }
        }
        common.into_iter().filter(|&(_, information)| information >= 0.5 * all).map(|(other, _)| other).min()
    }
}

fn distinct(words: &[String]) -> Vec<&str> {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_but_for_case_and_space() {
        let texts = ["A  cat sat.", "The dog.", "a cat\nsat. ", "Birds fly south", "unused a cat sat."];
        let found = shared_texts(&texts, &[&[0, 1], &[3], &[2]]).unwrap();
        assert_eq!(found, SharedTexts { same: 1, near: 0, of: 2, example: (0, 2) });
        assert!(found.to_string().starts_with("1 of 2 held-out texts are also in an earlier part"));
        assert_eq!(shared_texts(&texts, &[&[0, 2], &[1], &[3]]), None); // on the same side
        assert_eq!(shared_texts(&texts, &[&[1], &[0, 3], &[2]]).unwrap().same, 1); // the later one only
        assert_eq!(shared_texts::<&str>(&[], &[&[], &[]]), None);
        assert_eq!(shared_texts(&["", ""], &[&[0], &[1]]).unwrap().same, 1);
    }

    #[test]
    fn statements_about_one_city_are_near() {
        let statement = |i: usize| format!("The city of city{} is in land{}.", i / 2, (i * 7) % 30);
        let texts: Vec<String> = (0..400).map(statement).collect();
        let (even, odd): (Vec<usize>, Vec<usize>) = (0..400).partition(|i| i % 2 == 0);
        let found = shared_texts(&texts, &[&even, &odd]).unwrap();
        assert_eq!((found.same, found.near, found.of, found.example), (0, 200, 200, (0, 1)));
        assert!(
            found.to_string().starts_with("200 of 200 held-out texts are nearly in an earlier part as well")
        );
        let (first, second): (Vec<usize>, Vec<usize>) = (0..400).partition(|i| i / 2 % 2 == 0); // by city
        assert_eq!(shared_texts(&texts, &[&first, &second]), None);
    }

    #[test]
    fn unrelated_sentences_are_not() {
        let word = |i: u64| crate::draw::draw(0, b"layerscope/test of texts", i, 0) % 2000;
        let text = |i: u64| (0..12).map(|w| word(12 * i + w).to_string()).collect::<Vec<_>>().join(" ");
        let texts: Vec<String> = (0..500).map(text).collect();
        let (train, test): (Vec<usize>, Vec<usize>) = (0..500).partition(|i| i % 3 > 0);
        assert_eq!(shared_texts(&texts, &[&train, &test]), None);
    }
}
