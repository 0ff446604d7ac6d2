use std::fmt;

/// A class that an error is about: its number, and its name once somebody who knows it has given it ([`Error::named`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its place among the classes.
    pub number: usize,
    /// What it is called.
    pub name: Option<String>,
}

impl From<usize> for Class {
    fn from(number: usize) -> Self {
        Self { number, name: None }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name:?}"),
            None => write!(f, "{}", self.number),
        }
    }
}

/// `1 row`, `2 rows`.
struct Counted(usize, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, one) = self;
        match (*n, *one) {
            (1, one) => write!(f, "1 {one}"),
            (n, "class") => write!(f, "{n} classes"),
            (n, one) => write!(f, "{n} {one}s"),
        }
    }
}

/// What can go wrong with a probe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rows and labels of different number.
    #[error("{} but {}", Counted(*.rows, "row"), Counted(*.labels, "label"))]
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
    #[error("row {row}: class {class}, but there are {}", Counted(*.n_classes, "class"))]
    NoSuchClass {
        /// The first such row.
        row: usize,
        /// Its class.
        class: u32,
        /// Number of classes.
        n_classes: usize,
    },
    /// Fewer than two classes: nothing to tell apart.
    #[error("{}, expected two or more", Counted(*.got, "class"))]
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
    #[error("{} cannot make {}", Counted(*.groups, "group"), Counted(*.parts, "part"))]
    TooFewGroups {
        /// Number of groups.
        groups: usize,
        /// Number of parts.
        parts: usize,
    },
    /// A cross-validation of fewer than two folds.
    #[error("{}, expected two or more", Counted(*.got, "fold"))]
    TooFewFolds {
        /// Number of folds.
        got: usize,
    },
    /// A class in fewer groups than there are parts of a split.
    #[error("class {class} is in {}, too few for {}", Counted(*.groups, "group"), Counted(*.parts, "part"))]
    ClassInTooFewGroups {
        /// The class.
        class: Class,
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
        class: Class,
    },
    /// A class without any row.
    #[error("no row of class {class}")]
    LacksClass {
        /// The class.
        class: Class,
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
    /// Labels of the wrong kind.
    #[error("labels are {got}, expected {expected}")]
    Kind {
        /// What the estimator needs.
        expected: &'static str,
        /// What it was given.
        got: &'static str,
    },
    /// Another number of classes than an estimator can tell apart.
    #[error("{}, expected {expected}", Counted(*.got, "class"))]
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
    #[error("{}, expected at least {expected}", Counted(*.got, "row"))]
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
    #[error("not converged after {}: gap {gap:e}, tolerance {tolerance:e}", Counted(*.iterations, "iteration"))]
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

impl Error {
    /// The same error with the name of the class it is about, where it is about one: what somebody who reads it knows.
    #[must_use]
    pub fn named(mut self, names: &[String]) -> Self {
        if let Self::ClassInTooFewGroups { class, .. }
        | Self::PartLacksClass { class, .. }
        | Self::LacksClass { class } = &mut self
        {
            class.name = names.get(class.number).cloned();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_named_and_counts_agree_with_their_nouns() {
        let few = |groups| Error::ClassInTooFewGroups { class: 1.into(), groups, parts: 3 };
        assert_eq!(few(1).to_string(), "class 1 is in 1 group, too few for 3 parts");
        let names = ["NN".to_owned(), "a \"b\"".into()];
        assert_eq!(
            few(2).named(&names).to_string(),
            "class \"a \\\"b\\\"\" is in 2 groups, too few for 3 parts"
        );
        let lacks = |class: usize| Error::LacksClass { class: class.into() }.named(&names).to_string();
        assert_eq!((lacks(0), lacks(5)), ("no row of class \"NN\"".into(), "no row of class 5".into()));
        assert_eq!(
            Error::Few { expected: 2, got: 1 }.named(&names).to_string(),
            "1 row, expected at least 2"
        );
        assert_eq!(Error::Length { rows: 1, labels: 2 }.to_string(), "1 row but 2 labels");
    }
}
