//! What can go wrong with a tally.

/// A document's numbers cannot be counted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// A sum is NaN or infinite: it is named, never averaged.
    #[error("sum of column {column} is {value} in document {doc_id}")]
    #[allow(missing_docs)]
    NotFinite { doc_id: u64, column: usize, value: f64 },
    /// A count is negative, NaN or infinite.
    #[error("count of group {group} is {value} in document {doc_id}")]
    #[allow(missing_docs)]
    BadCount { doc_id: u64, group: usize, value: f64 },
    /// Not one sum per column, or not one count per group.
    #[error("document {doc_id} has {got} {what}, expected {expected}")]
    #[allow(missing_docs)]
    Width { doc_id: u64, what: &'static str, expected: usize, got: usize },
    /// A column names a count group that is not there.
    #[error("column {column} belongs to group {group}, but there are {groups} groups")]
    #[allow(missing_docs)]
    NoSuchGroup { column: usize, group: usize, groups: usize },
    /// Two tallies can be merged only if they count the same thing with the same draws.
    #[error("cannot merge tallies of different {what}")]
    #[allow(missing_docs)]
    Mismatch { what: &'static str },
}
