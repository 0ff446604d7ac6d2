//! What the tokens alone give: baselines that look at no activation.

use std::collections::{BTreeMap, HashMap};

use crate::{Csr, Error};

/// The most frequent class of `y`; of equally frequent ones the first.
///
/// # Errors
/// [`Error::Empty`] and [`Error::NoSuchClass`].
pub fn majority(y: &[u32], n_classes: usize) -> Result<u32, Error> {
    let mut counts = vec![0; n_classes];
    for (row, &class) in y.iter().enumerate() {
        *counts.get_mut(class as usize).ok_or(Error::NoSuchClass { row, class, n_classes })? += 1;
    }
    if y.is_empty() { Err(Error::Empty) } else { Ok(most(&counts)) }
}

fn most(counts: &[usize]) -> u32 {
    (1..counts.len()).fold(0, |best, i| if counts[i] > counts[best] { i } else { best }) as u32
}

/// Gives every word type the class it has most often in training, and types it has not seen the most frequent class of
/// all: the "most frequent tag" baseline of word-level tasks.
#[derive(Debug, Clone)]
pub struct TypeMajority {
    of_type: HashMap<u64, u32>,
    overall: u32,
}

impl TypeMajority {
    /// From the types and classes of the training rows.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`] and [`Error::NoSuchClass`].
    pub fn fit(types: &[u64], y: &[u32], n_classes: usize) -> Result<Self, Error> {
        if types.len() != y.len() {
            return Err(Error::Length { rows: types.len(), labels: y.len() });
        }
        let overall = majority(y, n_classes)?;
        let mut counts: HashMap<u64, BTreeMap<u32, usize>> = HashMap::new();
        for (&word_type, &class) in types.iter().zip(y) {
            *counts.entry(word_type).or_default().entry(class).or_default() += 1;
        }
        // Of equally frequent classes `max_by_key` takes the last: ascending order is turned.
        let most = |counts: BTreeMap<u32, usize>| counts.into_iter().rev().max_by_key(|&(_, n)| n);
        let of_type = counts.into_iter().filter_map(|(word_type, counts)| Some((word_type, most(counts)?.0)));
        Ok(Self { of_type: of_type.collect(), overall })
    }

    /// The class of each type.
    pub fn predict(&self, types: &[u64]) -> Vec<u32> {
        types.iter().map(|word_type| *self.of_type.get(word_type).unwrap_or(&self.overall)).collect()
    }

    /// How many of these rows are of a type seen in training.
    pub fn seen(&self, types: &[u64]) -> usize {
        types.iter().filter(|word_type| self.of_type.contains_key(word_type)).count()
    }
}

/// The tokens of the training texts, a column each, ascending by id: bag-of-tokens features know no other token.
#[derive(Debug, Clone)]
pub struct TokenColumns {
    tokens: Vec<u32>,
}

impl TokenColumns {
    /// Of the token ids of every training text.
    pub fn fit<T: AsRef<[u32]>>(texts: &[T]) -> Self {
        let mut tokens: Vec<u32> = texts.iter().flat_map(|text| text.as_ref().iter().copied()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        Self { tokens }
    }

    /// How often each token is in each text, `(n, columns)`. Tokens that training has not seen are left out.
    ///
    /// # Errors
    /// None in practice; [`Csr::counts`] checks its columns.
    pub fn counts<T: AsRef<[u32]>>(&self, texts: &[T]) -> Result<Csr, Error> {
        let columns = |text: &T| -> Vec<u32> {
            let known = text.as_ref().iter().filter_map(|token| self.tokens.binary_search(token).ok());
            known.map(|column| column as u32).collect()
        };
        let rows: Vec<Vec<u32>> = texts.iter().map(columns).collect();
        Csr::counts(self.tokens.len(), rows.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_class_of_a_type() {
        let types = [5, 5, 5, 8, 8, 2];
        let y = [1, 1, 0, 2, 0, 1];
        let baseline = TypeMajority::fit(&types, &y, 3).unwrap();
        // 8 has classes 2 and 0 once each: the first. 77 is unseen: class 1, three of six.
        assert_eq!(baseline.predict(&[5, 8, 2, 77]), [1, 0, 1, 1]);
        assert_eq!(baseline.seen(&[5, 8, 2, 77]), 3);
        assert_eq!(majority(&[2, 1, 1, 2], 3).unwrap(), 1);
    }

    #[test]
    fn counts_of_tokens() {
        let columns = TokenColumns::fit(&[vec![50, 3, 50], vec![], vec![7]]);
        let counts = columns.counts(&[vec![50, 3, 50, 999], vec![], vec![7, 7, 7]]).unwrap();
        let expected = Csr::new(3, vec![0, 2, 2, 3], vec![0, 2, 1], vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(counts, expected);
        let nothing = Csr::new(0, vec![0, 0], vec![], vec![]).unwrap();
        assert_eq!(TokenColumns::fit::<Vec<u32>>(&[]).counts(&[[1]]).unwrap(), nothing);
    }

    #[test]
    fn bad_labels_are_refused() {
        assert!(matches!(TypeMajority::fit(&[1], &[], 2), Err(Error::Length { rows: 1, labels: 0 })));
        assert!(matches!(TypeMajority::fit(&[], &[], 2), Err(Error::Empty)));
        assert!(matches!(majority(&[0, 5], 2), Err(Error::NoSuchClass { row: 1, class: 5, n_classes: 2 })));
    }
}
