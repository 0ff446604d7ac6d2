//! One spelling of a value, whatever file it comes from: the same table saved as CSV, JSON lines and Parquet has the
//! same labels.
//!
//! CSV knows text alone, so pandas' rule decides what a column is ([`read_csv`](https://pandas.pydata.org)), for every
//! format: all values numbers, and it holds numbers (`1.0` and `1` are 1); all values true or false, and it holds these
//! (`True` is `true`); else it is text, and stays as it is written. Missing values do not count.

use crate::sources::text::reader::RecordCell;

/// What pandas reads as missing, beside an empty value.
const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// A value that stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Null, NaN, or nothing but space.
    Empty,
    /// One of the words for it.
    Word(&'static str),
}

/// Whether a cell stands for no value. With `keep` the words for it are values like others.
pub(super) fn missing(cell: &RecordCell, keep: bool) -> Option<Missing> {
    match cell {
        RecordCell::Text(text) => {
            let word = || MISSING.into_iter().find(|word| *word == text.trim());
            let empty = text.trim().is_empty().then_some(Missing::Empty);
            empty.or_else(|| if keep { None } else { word().map(Missing::Word) })
        }
        RecordCell::Missing => Some(Missing::Empty),
        RecordCell::Number(x) => x.is_nan().then_some(Missing::Empty),
        RecordCell::Integer(_) | RecordCell::Bool(_) => None,
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Numbers,
    Booleans,
    Text,
}

/// The names of a column's values, in their order; missing ones have been taken out.
pub(super) fn names(cells: &[RecordCell]) -> Vec<String> {
    let kind = if cells.iter().all(|cell| number_of(cell).is_some()) {
        Kind::Numbers
    } else if cells.iter().all(|cell| boolean_of(cell).is_some()) {
        Kind::Booleans
    } else {
        Kind::Text
    };
    cells.iter().map(|cell| kind.name(cell)).collect()
}

impl Kind {
    fn name(self, cell: &RecordCell) -> String {
        let name = match self {
            Self::Numbers => number_of(cell),
            Self::Booleans => boolean_of(cell).map(|b| b.to_string()),
            Self::Text => None,
        };
        name.unwrap_or_else(|| as_text(cell))
    }
}

/// A value among others of other kinds, as pandas writes it to CSV.
fn as_text(cell: &RecordCell) -> String {
    match cell {
        RecordCell::Missing => String::new(),
        RecordCell::Text(text) => text.trim().to_owned(),
        RecordCell::Integer(n) => n.to_string(),
        RecordCell::Number(x) => format!("{x:?}"),
        RecordCell::Bool(true) => "True".into(),
        RecordCell::Bool(false) => "False".into(),
    }
}

fn number_of(cell: &RecordCell) -> Option<String> {
    match cell {
        RecordCell::Integer(n) => Some(n.to_string()),
        RecordCell::Number(x) => Some(shortest(*x)),
        RecordCell::Text(text) => number(text.trim()),
        RecordCell::Missing | RecordCell::Bool(_) => None,
    }
}

/// The one spelling of a number: integers of any length without a point, others as short as can be.
fn number(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|x: &f64| !x.is_nan()).map(shortest);
    }
    Some(match (digits.trim_start_matches('0'), text.starts_with('-')) {
        ("", _) => "0".into(),
        (digits, true) => format!("-{digits}"),
        (digits, false) => digits.into(),
    })
}

/// As f32 where it is one: pandas writes 0.1 of a column of f32 as 0.1, which in f64 is 0.10000000149011612.
fn shortest(x: f64) -> String {
    let narrow = x as f32;
    if x == 0.0 {
        "0".into()
    } else if f64::from(narrow) == x {
        narrow.to_string()
    } else {
        x.to_string()
    }
}

fn boolean_of(cell: &RecordCell) -> Option<bool> {
    match cell {
        RecordCell::Bool(b) => Some(*b),
        RecordCell::Text(text) => boolean(text.trim()),
        _ => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

/// The place of a class in a vocabulary that another file (or an earlier version) may have spelled otherwise: the same
/// name, or else the only one of equal value, as `1.0` is 1 and `True` is true.
pub fn place(name: &str, vocabulary: &[String]) -> Option<usize> {
    let value = |name: &str| number(name).or_else(|| boolean(name).map(|b| b.to_string()));
    let own = value(name);
    let mut equal = (0..vocabulary.len()).filter(|i| own.is_some() && value(&vocabulary[*i]) == own);
    let same = vocabulary.iter().position(|known| known == name);
    same.or_else(|| equal.next().filter(|_| equal.next().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<RecordCell> {
        values.iter().map(|value| RecordCell::Text((*value).into())).collect()
    }

    #[test]
    fn a_column_of_numbers_has_one_spelling_of_each() {
        let names = |values: &[&str]| names(&texts(values)).join(" ");
        assert_eq!(names(&["1", "1.0", "01", "+1", "1e0", "1."]), "1 1 1 1 1 1");
        assert_eq!(names(&["-0", "0.0", "-0.50", ".5", "1e3"]), "0 0 -0.5 0.5 1000");
        assert_eq!(names(&["18446744073709551616", "-007"]), "18446744073709551616 -7");
        assert_eq!(names(&["inf", "-Infinity", "1e400"]), "inf -inf inf");
        // One value that is none, and all are text.
        assert_eq!(names(&["1.0", "01", "one"]), "1.0 01 one");
        for not in ["1_0", "0x1", "1,5", "1 0", "e5", "--1", "nan"] {
            assert_eq!(names(&["1.0", not]), format!("1.0 {not}"));
        }
        let typed = [
            RecordCell::Integer(1),
            RecordCell::Number(1.0),
            RecordCell::Number(0.1f32.into()),
            RecordCell::Text("0.1".into()),
        ];
        assert_eq!(super::names(&typed), ["1", "1", "0.1", "0.1"]);
    }

    #[test]
    fn a_column_of_booleans_too_and_what_is_mixed_is_as_pandas_writes_it() {
        let all =
            [RecordCell::Bool(true), RecordCell::Text("TRUE".into()), RecordCell::Text(" False".into())];
        assert_eq!(names(&all), ["true", "true", "false"]);
        let mixed = [
            RecordCell::Bool(true),
            RecordCell::Number(1.0),
            RecordCell::Integer(2),
            RecordCell::Text(" x ".into()),
        ];
        assert_eq!(names(&mixed), ["True", "1.0", "2", "x"]);
        assert_eq!(names(&texts(&["true", "1"])), ["true", "1"]);
        assert_eq!(names(&texts(&["yes", "no", "T"])), ["yes", "no", "T"]);
    }

    #[test]
    fn missing_is_what_pandas_reads_as_missing() {
        let word = |text: &str, keep| missing(&RecordCell::Text(text.into()), keep);
        assert_eq!(word("NA", false), Some(Missing::Word("NA")));
        assert_eq!(word(" None ", false), Some(Missing::Word("None")));
        assert_eq!((word("NA", true), word(" ", true)), (None, Some(Missing::Empty)));
        for value in ["na", "none", "NAN", "Nan", "missing", "-", "0"] {
            assert_eq!(word(value, false), None, "{value}");
        }
        assert_eq!(missing(&RecordCell::Number(f64::NAN), true), Some(Missing::Empty));
        assert_eq!(missing(&RecordCell::Missing, true), Some(Missing::Empty));
        assert_eq!(missing(&RecordCell::Bool(false), false), None);
    }

    #[test]
    fn a_class_is_found_in_another_spelling() {
        let known = ["0.0", "1.0", "True", "x"].map(str::to_owned);
        assert_eq!(
            ["1", "0.0", "true", "x", "X", "2"].map(|name| place(name, &known)),
            [Some(1), Some(0), Some(2), Some(3), None, None]
        );
        let twice = ["1", "1.0"].map(str::to_owned);
        assert_eq!((place("1.0", &twice), place("01", &twice)), (Some(1), None));
    }
}
