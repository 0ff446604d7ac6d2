//! One value of a column that is not the text.

/// A scalar as its file has it. In CSV and TSV every value is text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RecordCell {
    /// Null.
    Missing,
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// True or false.
    Bool(bool),
}

impl RecordCell {
    /// The value as a name, without space around it: a whole float is written as an integer (pandas turns integers
    /// with gaps into floats), and a null, a NaN or an empty text is no name.
    pub(crate) fn name(&self) -> Option<String> {
        let text = match self {
            Self::Missing => return None,
            Self::Text(text) => text.trim().to_owned(),
            Self::Integer(n) => n.to_string(),
            Self::Number(x) if x.is_nan() => return None,
            Self::Number(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |cell: RecordCell| cell.name();
        assert_eq!(name(RecordCell::Text(" a b\t".into())).as_deref(), Some("a b"));
        assert_eq!(name(RecordCell::Integer(-3)).as_deref(), Some("-3"));
        assert_eq!(name(RecordCell::Number(1.0)).as_deref(), Some("1"));
        assert_eq!(name(RecordCell::Number(0.25)).as_deref(), Some("0.25"));
        assert_eq!(name(RecordCell::Bool(true)).as_deref(), Some("true"));
        for cell in [RecordCell::Missing, RecordCell::Text("  ".into()), RecordCell::Number(f64::NAN)] {
            assert_eq!(name(cell), None);
        }
    }
}
