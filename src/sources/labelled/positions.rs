//! Which tokens of a text, or of a word in it, a probe reads.

use super::error::LabelledError;
use super::set::Unit;
use std::fmt;

/// The tokens that an item's state is read from. A BOS token that was added is never read: its state is the same in
/// every text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum LabelPositions {
    /// The text's last token.
    Last,
    /// The text's first token.
    First,
    /// The mean over the text's tokens.
    Mean,
    /// Every token of the text, each an item with the text's label.
    All,
    /// The first token of the word or span.
    FirstPiece,
    /// The last token of the word or span: the one that has read all of it. `span` is the same.
    #[cfg_attr(feature = "cli", value(alias = "span"))]
    LastPiece,
    /// The mean over the tokens of the word or span.
    MeanPiece,
}

impl fmt::Display for LabelPositions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::First => "first",
            Self::Mean => "mean",
            Self::All => "all",
            Self::FirstPiece => "first-piece",
            Self::LastPiece => "last-piece",
            Self::MeanPiece => "mean-piece",
        })
    }
}

impl LabelPositions {
    /// What was asked for, if the data have it; by default `last` for texts and `last-piece` for spans and words.
    ///
    /// # Errors
    /// [`LabelledError::Positions`].
    pub fn resolve(asked: Option<Self>, unit: Unit) -> Result<Self, LabelledError> {
        let Some(positions) = asked else {
            return Ok(if unit == Unit::Text { Self::Last } else { Self::LastPiece });
        };
        let reason = match (unit, positions.of_pieces()) {
            (Unit::Text, true) => "need spans: a start and an end column, or a .conllu file",
            (Unit::Word, false) => "read a whole text, but here every word has its label: use a piece",
            _ => return Ok(positions),
        };
        Err(LabelledError::Positions { positions, reason })
    }

    /// Whether these are positions of a word or span.
    pub fn of_pieces(self) -> bool {
        matches!(self, Self::FirstPiece | Self::LastPiece | Self::MeanPiece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_defaults() {
        let parse = |name: &str| <LabelPositions as clap::ValueEnum>::from_str(name, false).unwrap();
        for positions in <LabelPositions as clap::ValueEnum>::value_variants() {
            assert_eq!(parse(&positions.to_string()), *positions);
        }
        assert_eq!(parse("span"), LabelPositions::LastPiece);
        assert_eq!(LabelPositions::resolve(None, Unit::Text).unwrap(), LabelPositions::Last);
        assert_eq!(LabelPositions::resolve(None, Unit::Word).unwrap(), LabelPositions::LastPiece);
        assert_eq!(
            LabelPositions::resolve(Some(LabelPositions::Mean), Unit::Span).unwrap(),
            LabelPositions::Mean
        );
        let error = |positions, unit| LabelPositions::resolve(Some(positions), unit).unwrap_err().to_string();
        assert!(error(LabelPositions::MeanPiece, Unit::Text).starts_with("positions mean-piece need spans"));
        assert!(error(LabelPositions::Last, Unit::Word).starts_with("positions last read a whole text"));
    }
}
