//! Rows by their group: what is split, resampled and permuted as a whole.

/// The distinct groups, ascending by id, and the group of every row.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    pub(crate) ids: Vec<u64>,
    /// `(n,)`, an index into `ids`.
    pub(crate) of_row: Vec<usize>,
}

impl Groups {
    /// From the group id of every row.
    pub(crate) fn new(of_row: &[u64]) -> Self {
        let mut ids = of_row.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let of_row = of_row.iter().map(|id| ids.partition_point(|other| other < id)).collect();
        Self { ids, of_row }
    }

    /// How many groups.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The rows of each group, in their order.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.len()];
        for (row, &group) in self.of_row.iter().enumerate() {
            rows[group].push(row);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_group() {
        let groups = Groups::new(&[7, 2, 7, u64::MAX]);
        assert_eq!(
            (groups.ids.as_slice(), groups.of_row.as_slice()),
            (&[2, 7, u64::MAX][..], &[1, 0, 1, 2][..])
        );
        assert_eq!(groups.rows(), [vec![1], vec![0, 2], vec![3]]);
        assert_eq!(Groups::new(&[]).len(), 0);
    }
}
