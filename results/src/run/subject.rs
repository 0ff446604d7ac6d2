//! Whose number a row is.

/// Stands between a subject and a direction of it: `tuned@pca-3`.
pub const DIRECTION: char = '@';

/// Subject and direction of a row, `tuned` and `pca-3` of `tuned@pca-3`; of a set's mean the set.
pub fn split_direction(subject: &str) -> Option<(&str, &str)> {
    subject.rsplit_once(DIRECTION)
}

/// What the causal basis of a lens is called. `@` stands between subject and direction, `:` between a file and a tensor in it.
pub fn basis_name(lens: &str) -> String {
    format!("{}.cbe", lens.replace(['@', ':'], "_"))
}

/// What the random directions are called together.
pub const TOGETHER: &str = "random-mean";
