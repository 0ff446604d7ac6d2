//! What can go wrong with labelled data.

use crate::sources::text::TextError;
use crate::sources::text::error::list;
use std::path::PathBuf;

use super::positions::LabelPositions;

/// An error of labelled data: one line, with the place and the operands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelledError {
    /// The file itself, its columns or its text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A row without the message that labels are about.
    #[error("{place}: no message that `{turn}` selects")]
    NoTurn {
        /// File and line.
        place: String,
        /// The selection.
        turn: String,
    },
    /// A row without a label, where every row must have one.
    #[error("{place}: no {column:?} (--strict asks for a label in every row)")]
    MissingLabel {
        /// File and line.
        place: String,
        /// The label column.
        column: String,
    },
    /// A label that is a word for a missing one, where every row must have a label.
    #[error(
        "{place}: {column:?} is {word:?}, which is read as missing (--strict asks for a label in every row; --keep-missing-labels makes it a class)"
    )]
    MissingWord {
        /// File and line.
        place: String,
        /// The label column.
        column: String,
        /// The word.
        word: &'static str,
    },
    /// A label that is no number, where numbers are asked for.
    #[error("{place}: label {found:?} is not a finite number")]
    NotANumber {
        /// File and line.
        place: String,
        /// The label.
        found: String,
    },
    /// A bound of a span that is no place in a text.
    #[error("{place}: {column:?} must be a whole number from 0, got {found}")]
    BadBound {
        /// File and line.
        place: String,
        /// The column.
        column: String,
        /// The value.
        found: String,
    },
    /// A span that is empty or reaches beyond its text.
    #[error("{place}: span {start}..{end} (characters, end exclusive) is not in a text of {len} characters")]
    BadSpan {
        /// File and line.
        place: String,
        /// First character.
        start: usize,
        /// Behind the last character.
        end: usize,
        /// Characters of the text.
        len: usize,
    },
    /// A line that is not CoNLL-U.
    #[error("{place}: bad conllu: {message}")]
    Conllu {
        /// File and line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// An option that CoNLL-U files have no use for.
    #[error("{}: {option} does not apply to CoNLL-U, which has its own texts, words and documents", .path.display())]
    NotForConllu {
        /// The file.
        path: PathBuf,
        /// The option.
        option: &'static str,
    },
    /// Words in one file, texts in another.
    #[error("{}: labels of words and labels of texts cannot be mixed", .0.display())]
    Mixed(PathBuf),
    /// No row has both a text and a label.
    #[error("no labelled text in {inputs}{left_out}")]
    NothingLabelled {
        /// The inputs.
        inputs: String,
        /// What was left out and why.
        left_out: String,
    },
    /// Labels that do not differ.
    #[error("{} {label:?}{cause}: a probe needs at least two classes", all(*.count))]
    OneClass {
        /// Number of labels.
        count: usize,
        /// The only class.
        label: String,
        /// Why others are gone, where they were there.
        cause: &'static str,
    },
    /// Numbers that do not differ.
    #[error("{} {value}: nothing to regress on", all(*.count))]
    ConstantNumbers {
        /// Number of labels.
        count: usize,
        /// The only value.
        value: f64,
    },
    /// A class that a fitted probe does not know.
    #[error("class {label:?} is not one of those fitted: {}", list(.known))]
    UnknownClass {
        /// The class.
        label: String,
        /// The classes of the probe.
        known: Vec<String>,
    },
    /// Positions that the data do not have.
    #[error("positions {positions} {reason}")]
    Positions {
        /// What was asked for.
        positions: LabelPositions,
        /// Why not.
        reason: &'static str,
    },
    /// A context without room for a token of the text.
    #[error("a context of {context} tokens has no room for a text")]
    NoRoom {
        /// Longest window in tokens.
        context: usize,
    },
    /// No label is left to read.
    #[error("no item left to probe{left_out}")]
    NothingPlanned {
        /// What was left out and why.
        left_out: String,
    },
}

/// The beginning of what is said of labels that do not differ.
fn all(count: usize) -> String {
    if count == 1 { "the only label is".into() } else { format!("all {count} labels are") }
}
