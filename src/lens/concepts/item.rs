//! Prompts, and the words they are read for.

use crate::{results::draw::draw, sources::text::Tokenizer};

/// A word, in the spellings that are one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concept {
    /// As it was given.
    pub word: String,
    /// The word, the word after a space, and both with a capital letter: those that are one token.
    pub forms: Vec<i64>,
}

/// A prompt with its own words and those of another, as the control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The prompt's tokens.
    pub ids: Vec<i64>,
    /// What its answer goes through.
    pub own: Vec<Concept>,
    /// What another prompt's does, and its own does not.
    pub other: Vec<Concept>,
}

/// Gives every prompt (its tokens and its words) its control: the words of another prompt, drawn by `seed`, that are
/// none of its own. A prompt whose words are those of all others has none.
pub fn items(prompts: &[(Vec<i64>, Vec<Concept>)], seed: u64) -> Vec<Item> {
    let mut all = Vec::with_capacity(prompts.len());
    for (i, (ids, own)) in prompts.iter().enumerate() {
        let mut others: Vec<usize> = (0..prompts.len()).filter(|j| *j != i).collect();
        others.sort_by_key(|j| (draw(seed, i as u64, *j as u64), *j));
        let strange = |concept: &&Concept| !own.iter().any(|own| own.shares_a_form(concept));
        let of = |j: &usize| prompts[*j].1.iter().filter(strange).cloned().collect::<Vec<_>>();
        let other = others.iter().map(of).find(|words| !words.is_empty()).unwrap_or_default();
        all.push(Item { ids: ids.clone(), own: own.clone(), other });
    }
    all
}

impl Concept {
    /// A word in the spellings that are one token of the first `vocab`; none where it has no such spelling.
    pub fn new(word: &str, tokenizer: &Tokenizer, vocab: usize) -> Option<Self> {
        let word = word.trim();
        let mut forms = Vec::new();
        for spelling in [word.to_owned(), capitalised(word)] {
            for text in [format!(" {spelling}"), spelling] {
                let one = tokenizer.one_token(&text).ok().map(i64::from);
                forms.extend(one.filter(|id| (*id as usize) < vocab && !forms.contains(id)));
            }
        }
        (!forms.is_empty()).then(|| Self { word: word.to_owned(), forms })
    }

    fn shares_a_form(&self, other: &Self) -> bool {
        self.forms.iter().any(|form| other.forms.contains(form))
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concept(word: &str, forms: &[i64]) -> Concept {
        Concept { word: word.to_owned(), forms: forms.to_vec() }
    }

    #[test]
    fn a_control_is_of_another_prompt_and_shares_nothing() {
        let (france, italy) = (concept("France", &[1, 2]), concept("Italy", &[3]));
        let prompts = vec![
            (vec![7], vec![france.clone()]),
            (vec![8], vec![france.clone(), italy.clone()]),
            (vec![9], vec![italy.clone()]),
        ];
        for seed in 0..20 {
            let all = items(&prompts, seed);
            assert_eq!((&all[0].other, &all[2].other), (&vec![italy.clone()], &vec![france.clone()]));
            assert!(all[1].other.is_empty(), "its words are all the others'");
        }
        assert_eq!(capitalised("élan"), "Élan");
    }
}
