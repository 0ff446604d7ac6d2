//! Labels: classes from a sorted vocabulary, or numbers.

use super::error::LabelledError;
use super::spelling;
use std::collections::{BTreeMap, BTreeSet};

/// One label per item.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValues {
    /// Classes.
    Classes {
        /// A class per item, below `names.len()`.
        y: Vec<u32>,
        /// The vocabulary: in order of value where every name is an integer, else in the order of Unicode.
        names: Vec<String>,
    },
    /// Numbers, for regression; all finite.
    Numbers(Vec<f64>),
}

impl LabelValues {
    /// From labels as they are written, with their places.
    pub(super) fn parse<'a>(
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        numbers: bool,
    ) -> Result<Self, LabelledError> {
        if numbers {
            return labels
                .map(|(label, place)| number(label, place))
                .collect::<Result<_, _>>()
                .map(Self::Numbers);
        }
        let names = vocabulary(labels.clone().map(|(label, _)| label).collect());
        let ids: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let y = labels.map(|(label, _)| ids[label]).collect();
        Ok(Self::Classes { y, names })
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { y, .. } => y.len(),
            Self::Numbers(y) => y.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same labels over another vocabulary, that of a probe fitted to other data, where `1.0` may be what is `1`
    /// here. Numbers stay as they are.
    ///
    /// # Errors
    /// A class that `vocabulary` does not have.
    pub fn over(&self, vocabulary: &[String]) -> Result<Self, LabelledError> {
        let Self::Classes { y, names } = self else { return Ok(self.clone()) };
        let there: Vec<_> = names.iter().map(|name| spelling::place(name, vocabulary)).collect();
        let class = |&class: &u32| {
            there[class as usize].map(|there| there as u32).ok_or_else(|| LabelledError::UnknownClass {
                label: names[class as usize].clone(),
                known: vocabulary.to_vec(),
            })
        };
        let y = y.iter().map(class).collect::<Result<_, _>>()?;
        Ok(Self::Classes { y, names: vocabulary.to_vec() })
    }

    /// The labels of `items`, in that order, over the same vocabulary.
    pub(super) fn select(&self, items: &[u32]) -> Self {
        match self {
            Self::Classes { y, names } => {
                Self::Classes { y: items.iter().map(|&i| y[i as usize]).collect(), names: names.clone() }
            }
            Self::Numbers(y) => Self::Numbers(items.iter().map(|&i| y[i as usize]).collect()),
        }
    }

    /// Fails where the labels do not differ. `cause` says why others are gone.
    pub(super) fn check_differ(&self, cause: &'static str) -> Result<(), LabelledError> {
        match self {
            Self::Classes { y, names } => match y.split_first() {
                Some((first, rest)) if rest.iter().all(|class| class == first) => {
                    let label = names[*first as usize].clone();
                    Err(LabelledError::OneClass { count: y.len(), label, cause })
                }
                _ => Ok(()),
            },
            Self::Numbers(y) => match y.split_first() {
                Some((&value, rest)) if rest.iter().all(|x| *x == value) => {
                    Err(LabelledError::ConstantNumbers { count: y.len(), value })
                }
                _ => Ok(()),
            },
        }
    }
}

fn number(label: &str, place: &str) -> Result<f64, LabelledError> {
    let value = label.parse().ok().filter(|x: &f64| x.is_finite());
    value.ok_or_else(|| LabelledError::NotANumber { place: place.into(), found: label.into() })
}

fn vocabulary(distinct: BTreeSet<&str>) -> Vec<String> {
    let mut names: Vec<_> = distinct.into_iter().map(str::to_owned).collect();
    let values: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if values.is_some() {
        names.sort_by_key(|name| name.parse::<i64>().ok());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(labels: &[&str], numbers: bool) -> Result<LabelValues, String> {
        let places = labels.iter().map(|label| (*label, "a.csv:2"));
        LabelValues::parse(places, numbers).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_sort_by_value_and_others_by_letters() {
        let names = |labels: &[&str]| match parse(labels, false).unwrap() {
            LabelValues::Classes { y, names } => (y, names.join(" ")),
            LabelValues::Numbers(_) => panic!("classes"),
        };
        assert_eq!(names(&["10", "9", "-1", "9"]), (vec![2, 1, 0, 1], "-1 9 10".into()));
        assert_eq!(names(&["10", "9", "b", "B"]), (vec![0, 1, 3, 2], "10 9 B b".into()));
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(parse(&["1", "-2.5e3"], true).unwrap(), LabelValues::Numbers(vec![1.0, -2500.0]));
        for bad in ["nan", "inf", "1e999", "1,5", "true", "0x1"] {
            let error = parse(&[bad], true).unwrap_err();
            assert_eq!(error, format!("a.csv:2: label {bad:?} is not a finite number"));
        }
    }

    #[test]
    fn labels_that_do_not_differ() {
        let error = |labels: &[&str], numbers| {
            parse(labels, numbers).unwrap().check_differ("").err().map(|error| error.to_string())
        };
        let says = "all 2 labels are \"a\": a probe needs at least two classes";
        assert_eq!(error(&["a", "a"], false).as_deref(), Some(says));
        assert_eq!(error(&["1", "1.0"], true).as_deref(), Some("all 2 labels are 1: nothing to regress on"));
        let one = "the only label is \"a\": a probe needs at least two classes";
        assert_eq!(error(&["a"], false).as_deref(), Some(one));
        assert_eq!(error(&["a", "b"], false), None);
    }

    #[test]
    fn another_vocabulary() {
        let ab = parse(&["b", "a", "b"], false).unwrap();
        let known: Vec<String> = ["c", "b", "a"].map(Into::into).into();
        assert_eq!(ab.over(&known).unwrap(), LabelValues::Classes { y: vec![1, 2, 1], names: known.clone() });
        let error = ab.over(&known[..2]).unwrap_err().to_string();
        assert_eq!(error, "class \"a\" is not one of those fitted: \"c\", \"b\"");
        // A class of the vocabulary without a label does not matter.
        let b = ab.select(&[0]).over(&known[..2]).unwrap();
        assert_eq!(b, LabelValues::Classes { y: vec![1], names: known[..2].to_vec() });
    }
}
