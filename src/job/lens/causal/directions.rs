//! How many directions are sought.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::{JobError, SetTo};

/// Directions of a set when no number is asked for, where the stream has as many: a rank correlation of ten says
/// little.
const DIRECTIONS: usize = 40;

/// How many directions per lens and layer, and of each control: a number, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// As many as the stream has.
    All,
    /// So many.
    Some(usize),
}

impl Directions {
    /// How many that are of a stream of `d` numbers; none asked for: 40.
    pub(super) fn number(requests: Option<Self>, d: usize) -> Result<usize, JobError> {
        match requests {
            None => Ok(DIRECTIONS.min(d)),
            Some(Self::All) => Ok(d),
            Some(Self::Some(k)) if k <= d => Ok(k),
            Some(Self::Some(k)) => {
                Err(JobError::usage(format!("{}: the stream has {d}", SetTo("directions", k))))
            }
        }
    }
}

impl FromStr for Directions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(k) if k > 0 => Ok(Self::Some(k)),
            _ if text == "all" => Ok(Self::All),
            _ => Err(format!("`{text}` is neither a number from 1 on nor `all`")),
        }
    }
}

impl fmt::Display for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Some(k) => k.fmt(f),
        }
    }
}

/// A number as a number, `all` as a word.
impl Serialize for Directions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => to.serialize_str("all"),
            Self::Some(k) => k.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Directions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Word(String),
        }
        let text = match Written::deserialize(from)? {
            Written::Number(k) => k.to_string(),
            Written::Word(word) => word,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_a_number_or_all() {
        for (json, directions) in [("12", Directions::Some(12)), ("\"all\"", Directions::All)] {
            assert_eq!(serde_json::from_str::<Directions>(json).unwrap(), directions);
            assert_eq!(serde_json::to_string(&directions).unwrap(), json);
        }
        for bad in ["0", "-1", "\"some\"", "1.5"] {
            assert!(serde_json::from_str::<Directions>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn by_default_there_are_forty_or_as_many_as_the_stream_has() {
        let number = |requests| Directions::number(requests, 64).unwrap();
        assert_eq!(
            (number(None), number(Some(Directions::All)), number(Some(Directions::Some(3)))),
            (40, 64, 3)
        );
        assert_eq!(Directions::number(None, 16).unwrap(), 16);
        let error = Directions::number(Some(Directions::Some(65)), 64).unwrap_err();
        assert_eq!(error.to_string(), "directions = 65: the stream has 64");
    }
}
