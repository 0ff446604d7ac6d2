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
    /// Labels of the wrong kind.
    #[error("labels are {got}, expected {expected}")]
    Kind {
        /// What the estimator needs.
        expected: &'static str,
        /// What it was given.
        got: &'static str,
    },
    /// A label that is no class.
    #[error("row {row}: class {class}, but there are {n_classes} classes")]
    Class {
        /// The first such row.
        row: usize,
        /// Its label.
        class: u32,
        /// Number of classes.
        n_classes: usize,
    },
    /// A class without a row.
    #[error("class {class} of {n_classes} has no row")]
    EmptyClass {
        /// The first such class.
        class: usize,
        /// Number of classes.
        n_classes: usize,
    },
    /// Another number of classes than an estimator can tell apart.
    #[error("{got} classes, expected {expected}")]
    Classes {
        /// What the estimator needs.
        expected: &'static str,
        /// Number of classes.
        got: usize,
    },
    /// Another number of targets or of columns of labels.
    #[error("labels of width {got}, expected {expected}")]
    Targets {
        /// The width before.
        expected: usize,
        /// The width now.
        got: usize,
    },
    /// Fewer rows than an estimator can work with.
    #[error("{got} rows, expected at least {expected}")]
    Few {
        /// Number of rows needed.
        expected: usize,
        /// Number of rows.
        got: usize,
    },
    /// A parameter outside its range.
    #[error("{name} is {got}, expected {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        got: f64,
    },
    /// A system that cannot be solved.
    #[error("{what} cannot be found: the matrix is singular or not finite")]
    Singular {
        /// What was to be found.
        what: &'static str,
    },
    /// An optimiser that stopped before its tolerance.
    #[error("not converged after {iterations} iterations: gap {gap:e}, tolerance {tolerance:e}")]
    NotConverged {
        /// Iterations done.
        iterations: usize,
        /// Estimated distance to the minimum, relative to the objective.
        gap: f64,
        /// The distance asked for.
        tolerance: f64,
    },
    /// A target with the same value in every row.
    #[error("target {column} does not vary")]
    Flat {
        /// The first such target.
        column: usize,
    },
    /// Rows that do not lie one after the other in memory.
    #[error("rows are not contiguous in row order")]
    Layout,
    /// A sparse matrix whose parts do not fit each other.
    #[error("sparse matrix: {what}")]
    Sparse {
        /// What does not fit.
        what: &'static str,
    },
}
