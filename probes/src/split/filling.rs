//! Where the next group goes.

use std::cmp::Reverse;

/// How full the parts are.
pub(super) struct Filling {
    n_classes: usize,
    /// Rows each part should have of each class, `[parts, n_classes]`; 0 for a part that gets nothing.
    target: Vec<f64>,
    /// Rows it has.
    rows: Vec<f64>,
    /// Groups with a row of each class that are still to come.
    to_come: Vec<usize>,
}

impl Filling {
    /// Nothing yet, of so many rows and groups of each class.
    pub(super) fn new(rows_of_class: &[usize], groups_of_class: Vec<usize>, shares: &[f64]) -> Self {
        let of_part = |share: &f64| -> Vec<f64> { rows_of_class.iter().map(|&n| share * n as f64).collect() };
        let target: Vec<f64> = shares.iter().flat_map(of_part).collect();
        let rows = vec![0.0; target.len()];
        Self { n_classes: rows_of_class.len(), target, rows, to_come: groups_of_class }
    }

    /// Puts a group with these rows of each class into a part.
    pub(super) fn place(&mut self, group: &[usize]) -> usize {
        let parts =
            (0..self.target.len() / self.n_classes).filter(|&part| self.target[part * self.n_classes] > 0.0);
        let rank =
            |part: &usize| (Reverse(self.last_chances(*part, group)), self.distance_added(*part, group));
        let best = parts.min_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let part = best.unwrap_or(0);
        for (class, &rows) in group.iter().enumerate() {
            self.rows[part * self.n_classes + class] += rows as f64;
            self.to_come[class] -= usize::from(rows > 0);
        }
        part
    }

    /// Classes of the group that the part lacks, and that the parts lacking them need every group to come for.
    fn last_chances(&self, part: usize, group: &[usize]) -> usize {
        let last = |class: usize| {
            self.lacks(part, class) && {
                let parts = 0..self.target.len() / self.n_classes;
                self.to_come[class] <= parts.filter(|&part| self.lacks(part, class)).count()
            }
        };
        (0..self.n_classes).filter(|&class| group[class] > 0 && last(class)).count()
    }

    fn lacks(&self, part: usize, class: usize) -> bool {
        let at = part * self.n_classes + class;
        self.target[at] > 0.0 && self.rows[at] == 0.0
    }

    /// What the group adds to Σ (rows - target)² / target.
    fn distance_added(&self, part: usize, group: &[usize]) -> f64 {
        let at = part * self.n_classes..(part + 1) * self.n_classes;
        let of_class = self.target[at.clone()].iter().zip(&self.rows[at]).zip(group);
        of_class
            .filter(|&(_, &n)| n > 0)
            .map(|((target, rows), &n)| n as f64 * (2.0 * (rows - target) + n as f64) / target)
            .sum()
    }

    /// The first part, and the class it lacks.
    pub(super) fn lacking(&self) -> Option<(usize, usize)> {
        let cells = (0..self.target.len()).map(|at| (at / self.n_classes, at % self.n_classes));
        cells.into_iter().find(|&(part, class)| self.lacks(part, class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes of 10 and 4 rows, of which the parts should have a half each, one nothing, and the last the other
    /// half.
    fn filling() -> Filling {
        Filling::new(&[10, 4], vec![3, 2], &[0.5, 0.0, 0.5])
    }

    /// Of class 0 the part has 0 of 5 rows: n (2 (rows - target) + n) / target.
    #[test]
    fn distances_by_hand() {
        let mut filling = filling();
        assert_eq!(filling.distance_added(0, &[4, 0]), 4.0 * (-10.0 + 4.0) / 5.0);
        assert_eq!(filling.distance_added(2, &[4, 1]), -4.8 - 3.0 / 2.0);
        filling.rows[0] = 4.0;
        assert_eq!(filling.distance_added(0, &[3, 0]), 3.0 * (-2.0 + 3.0) / 5.0);
    }

    #[test]
    fn last_chances_are_of_the_groups_own_classes() {
        let mut filling = filling();
        // Two parts lack each class; of class 0 there are groups enough to come, of class 1 there are not.
        assert_eq!(filling.last_chances(0, &[3, 0]), 0);
        assert_eq!(filling.last_chances(0, &[3, 1]), 1);
        filling.to_come = vec![2, 2];
        assert_eq!(filling.last_chances(0, &[3, 0]), 1);
        assert_eq!(filling.last_chances(1, &[3, 1]), 0);
    }

    #[test]
    fn groups_go_where_they_are_missed() {
        let mut filling = Filling::new(&[10], vec![4], &[0.5, 0.5]);
        assert_eq!([4, 3, 2, 1].map(|rows| filling.place(&[rows])), [0, 1, 1, 0]);
        assert_eq!((filling.rows, filling.to_come), (vec![5.0, 5.0], vec![0]));
    }

    #[test]
    fn the_part_and_the_class_that_lack() {
        let mut filling = filling();
        filling.rows[..3].fill(1.0);
        assert_eq!(filling.lacking(), Some((2, 0)));
        filling.rows[4] = 1.0;
        assert_eq!(filling.lacking(), Some((2, 1)));
        filling.rows[5] = 1.0;
        assert_eq!(filling.lacking(), None);
    }
}
