//! Where the sums of a transfer are in its tally.

/// Columns of a cell: KL, agreement, KL from the state's own lens (all positions), CE (positions with a next token).
pub(super) const WIDTH: usize = 4;
/// Count groups of a cell's columns: all positions, and those with a next token.
pub(super) const GROUPS: [usize; WIDTH] = [0, 0, 0, 1];
/// Place of CE in a cell.
pub(super) const CE: usize = 3;

/// Matrices of lens layer × state layer (plain, then corrected), then every reader's own layers, then the constant
/// predictors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) layers: usize,
    pub(super) matrices: usize,
    pub(super) readers: usize,
    pub(super) constants: usize,
}

impl Places {
    /// First column of lens layer `i` on state layer `j`.
    pub(super) fn cell(self, matrix: usize, i: usize, j: usize) -> usize {
        WIDTH * ((matrix * self.layers + i) * self.layers + j)
    }

    /// First column of a reader on layer `j`.
    pub(super) fn reader(self, reader: usize, j: usize) -> usize {
        self.cell(self.matrices, 0, 0) + WIDTH * (reader * self.layers + j)
    }

    /// The constant predictor's KL; after it those of the predictors without each block of documents.
    pub(super) fn constant(self) -> usize {
        self.reader(self.readers, 0)
    }

    /// The count group of every column.
    pub(super) fn groups(self) -> Vec<usize> {
        let constants = std::iter::repeat_n(0, self.constants);
        GROUPS.repeat(self.constant() / WIDTH).into_iter().chain(constants).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_one_another() {
        let at = Places { layers: 3, matrices: 2, readers: 2, constants: 3 };
        let cells = (0..2).flat_map(|m| (0..3).flat_map(move |i| (0..3).map(move |j| at.cell(m, i, j))));
        let readers = (0..2).flat_map(|r| (0..3).map(move |j| at.reader(r, j)));
        let all: Vec<usize> = cells.chain(readers).chain([at.constant()]).collect();
        assert_eq!(all, (0..=24).map(|cell| 4 * cell).collect::<Vec<_>>()); // 2 · 9 + 2 · 3, and the first constant
        assert_eq!(at.groups().len(), 99);
        assert_eq!(at.groups()[92..], [0, 0, 0, 1, 0, 0, 0]);
    }
}
