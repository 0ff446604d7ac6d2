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
    /// No row at all.
    #[error("no rows")]
    Empty,
    /// A class that is not below the number of classes.
    #[error("row {row}: class {class}, but there are {n_classes} classes")]
    NoSuchClass {
        /// The first such row.
        row: usize,
        /// Its class.
        class: u32,
        /// Number of classes.
        n_classes: usize,
    },
    /// Fewer than two classes: nothing to tell apart.
    #[error("{got} classes, expected two or more")]
    TooFewClasses {
        /// Number of classes.
        got: usize,
    },
    /// Shares of a split that are negative, empty where rows are needed, or do not add up to one.
    #[error(
        "shares of train, validation and test are {train}, {validation}, {test}: expected shares that add up to 1, of train and test above 0"
    )]
    Shares {
        /// Share of the training part.
        train: f64,
        /// Share of the validation part.
        validation: f64,
        /// Share of the test part.
        test: f64,
    },
    /// Fewer groups than parts of a split.
    #[error("{groups} groups cannot make {parts} parts")]
    TooFewGroups {
        /// Number of groups.
        groups: usize,
        /// Number of parts.
        parts: usize,
    },
    /// A cross-validation of fewer than two folds.
    #[error("{got} folds, expected two or more")]
    TooFewFolds {
        /// Number of folds.
        got: usize,
    },
    /// A class in fewer groups than there are parts of a split.
    #[error("class {class} is in {groups} groups, too few for {parts} parts")]
    ClassInTooFewGroups {
        /// The class.
        class: usize,
        /// Groups with a row of it.
        groups: usize,
        /// Number of parts.
        parts: usize,
    },
    /// A part of a split without a row of some class.
    #[error("part {part} of the split has no row of class {class}")]
    PartLacksClass {
        /// The part.
        part: String,
        /// The class.
        class: usize,
    },
    /// A class without any row.
    #[error("no row of class {class}")]
    LacksClass {
        /// The class.
        class: usize,
    },
    /// What should be log-probabilities and does not add up to one.
    #[error("row {row}: probabilities add up to {sum}, not to 1")]
    NotProbabilities {
        /// The row.
        row: usize,
        /// What they add up to.
        sum: f64,
    },
    /// A number to be compared that is NaN or infinite.
    #[error("number {place} of those to be compared is not finite")]
    NoValue {
        /// Its place.
        place: usize,
    },
    /// Things to be compared that were not measured on the same rows and resamples.
    #[error("cannot compare numbers of different {what}: expected {expected}, got {got}")]
    Unpaired {
        /// What differs.
        what: &'static str,
        /// Of the first.
        expected: usize,
        /// Of the other.
        got: usize,
    },
}
