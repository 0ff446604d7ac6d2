//! Small tables for the terminal: columns as wide as their cells, numbers to the right.

use std::fmt;

use console::{Alignment, measure_text_width, pad_str};
use layerscope::results::inert::{acts, blotted};

/// Between two columns.
const GAP: &str = "  ";

/// Rows of text under a line of headers; print it with `{}`. Wide characters count as two columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub(crate) fn new<T: AsRef<str>>(headers: impl IntoIterator<Item = T>) -> Self {
        Self { headers: clean(headers), rows: Vec::new() }
    }

    /// Adds a row. Cells that are missing are empty; cells beyond the headers get a column without a header.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(clean(cells));
        self
    }
}

impl fmt::Display for Table {
    /// A line per row, each with its newline and without spaces at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.headers).chain(&self.rows);
        let n = lines().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..n)
            .map(|i| {
                lines().filter_map(|line| line.get(i)).map(|cell| measure_text_width(cell)).max().unwrap_or(0)
            })
            .collect();
        let sides: Vec<_> = (0..n).map(|i| side(self.rows.iter().filter_map(|row| row.get(i)))).collect();
        for line in lines() {
            let cell = |i: usize| pad_str(line.get(i).map_or("", String::as_str), widths[i], sides[i], None);
            let text = (0..n).map(cell).collect::<Vec<_>>().join(GAP);
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// To the right when most cells with something in them, and the first, start as a number does: the word of one line
/// (the model's, below the layers) moves no column.
fn side<'a>(cells: impl Iterator<Item = &'a String>) -> Alignment {
    let cells: Vec<&str> =
        cells.map(|cell| cell.trim()).filter(|cell| !["", "-", "–"].contains(cell)).collect();
    let number = |cell: &str| {
        let rest = cell.trim_start_matches(['+', '-', '−']);
        rest.starts_with(|c: char| c.is_ascii_digit()) || ["NaN", "inf"].contains(&rest)
    };
    let words = cells.iter().filter(|cell| !number(cell)).count();
    let right = cells.first().is_some_and(|first| number(first)) && words * 2 < cells.len();
    if right { Alignment::Right } else { Alignment::Left }
}

/// A line break or an escape sequence in a name must not draw on the terminal.
fn clean<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<String> {
    cells.into_iter().map(|cell| blotted(cell.as_ref(), acts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_to_the_right_words_to_the_left() {
        let mut table = Table::new(["lens", "layer", "ce", "note"]);
        table.row(["logit", "0", "12.25 [11.9, 12.6]", ""]).row(["tuned", "11", "-3.5", "3 of 4"]);
        table.row(["漢字", "-", "–", "best"]);
        let expected = "\
lens   layer                  ce  note
logit      0  12.25 [11.9, 12.6]
tuned     11                -3.5  3 of 4
漢字       -                   –  best
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_word_below_the_layers_moves_no_column() {
        let mut table = Table::new(["layer", "ce"]);
        table.row(["0", "1"]).row(["10", "2"]).row(["model", "0.5"]);
        assert_eq!(table.to_string(), "layer   ce\n    0    1\n   10    2\nmodel  0.5\n");
    }

    #[test]
    fn ragged_and_empty_tables() {
        assert_eq!(Table::new(["a", "b"]).to_string(), "a  b\n");
        assert_eq!(Table::new(["a"]).row(["1", "x"]).row([""; 0]).to_string(), "a\n1  x\n\n");
        assert_eq!(Table::new([""; 0]).to_string(), "\n");
    }

    #[test]
    fn control_characters_are_inert() {
        let text = Table::new(["name"]).row(["a\nb\x1b[2J\u{9b}c"]).to_string();
        assert_eq!(text, "name\na\u{fffd}b\u{fffd}[2J\u{fffd}c\n");
    }
}
