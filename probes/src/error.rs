/// What can go wrong with a probe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rows and labels of different number.
    #[error("{rows} rows but {labels} labels")]
    Length {
        /// Number of rows.
        rows: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Rows of another width than a probe was fitted on.
    #[error("rows of width {got}, expected {expected}")]
    Width {
        /// The width the probe was fitted on.
        expected: usize,
        /// The width of the rows.
        got: usize,
    },
    /// A value that is NaN or infinite.
    #[error("row {row}: a value is not finite")]
    NotFinite {
        /// The first such row.
        row: usize,
    },
}
