//! When two texts count as the same.

/// The text in lower case with single spaces: two texts with equal folds repeat each other.
pub(super) fn fold(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn case_and_space_do_not_matter() {
        assert_eq!(fold("  The\u{A0}city\tof Łódź\n"), "the city of łódź");
        assert_eq!(fold(" \n"), "");
        assert_ne!(fold("a b"), fold("ab"));
    }
}
