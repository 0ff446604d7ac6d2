//! Permutation tests: how often labels that are shuffled do as well.
//!
//! Labels are exchanged the way the null hypothesis allows: where every group has one label, groups exchange theirs whole;
//! where labels vary within groups, rows exchange theirs within their group. Shuffling single rows of a grouped set would
//! make everything significant.

use ndarray::ArrayView2;

use crate::draw::{Purpose, draw, shuffled};
use crate::groups::Groups;
use crate::{Error, Labels};

const PURPOSE: &Purpose = b"layerscope/permute-label";

/// What a permutation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Labels of whole groups; with a group per row, of rows.
    Groups,
    /// Labels of rows within their group.
    WithinGroups,
}

/// Labels of grouped rows, to be permuted.
#[derive(Debug, Clone)]
pub struct Permutations {
    /// The rows of each group, groups ascending by id.
    groups: Vec<Vec<usize>>,
    ids: Vec<u64>,
    exchange: Exchange,
    seed: u64,
}

impl Permutations {
    /// Of the labels of rows with these groups, drawn from (seed, group).
    ///
    /// # Errors
    /// [`Error::Length`] and [`Error::Empty`].
    pub fn new(labels: &Labels<'_>, groups: &[u64], seed: u64) -> Result<Self, Error> {
        let n = match labels {
            Labels::Classes { y, .. } => y.len(),
            Labels::Numbers(y) => y.nrows(),
        };
        if groups.len() != n {
            return Err(Error::Length { rows: groups.len(), labels: n });
        }
        if n == 0 {
            return Err(Error::Empty);
        }
        let groups = Groups::new(groups);
        let rows = groups.rows();
        let same = |a: usize, b: usize| match labels {
            Labels::Classes { y, .. } => y[a] == y[b],
            Labels::Numbers(y) => y.row(a) == y.row(b),
        };
        let constant = |rows: &Vec<usize>| rows.iter().all(|&row| same(row, rows[0]));
        let exchange = if rows.iter().all(constant) { Exchange::Groups } else { Exchange::WithinGroups };
        Ok(Self { groups: rows, ids: groups.ids, exchange, seed })
    }

    /// What is exchanged: groups where each has one label, else rows within them. Where some groups vary, those that do not
    /// keep their label.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Permutation number `round`: for each row, the row whose label it gets. A group whose label goes to a larger one gives
    /// it to more rows.
    pub fn rows(&self, round: u64) -> Vec<usize> {
        let mut out = vec![0; self.groups.iter().map(Vec::len).sum()];
        match self.exchange {
            Exchange::Groups => {
                let from = shuffled(self.seed, PURPOSE, round, &self.ids);
                for (to, from) in self.groups.iter().zip(from) {
                    for &row in to {
                        out[row] = self.groups[from][0];
                    }
                }
            }
            Exchange::WithinGroups => {
                for (rows, &id) in self.groups.iter().zip(&self.ids) {
                    // Rows are told apart by their place in the group.
                    let places: Vec<u64> = (0..rows.len() as u64).collect();
                    let from = shuffled(draw(self.seed, PURPOSE, id, 0), PURPOSE, round, &places);
                    rows.iter().zip(from).for_each(|(&row, from)| out[row] = rows[from]);
                }
            }
        }
        out
    }

    /// The classes `y` permuted.
    pub fn labels(&self, y: &[u32], round: u64) -> Vec<u32> {
        self.rows(round).into_iter().map(|row| y[row]).collect()
    }
}

/// p of an observed statistic, larger being further from the null: (1 + permutations at or above it) / (1 + permutations)
/// (Phipson & Smyth 2010, "Permutation p-values should never be zero").
///
/// # Errors
/// [`Error::NoValue`]: `place` 0 for the observed one, from 1 on for the permutations.
pub fn p_value(observed: f64, null: &[f64]) -> Result<f64, Error> {
    let all = std::iter::once(&observed).chain(null);
    finite(all)?;
    let above = null.iter().filter(|&&value| value >= observed).count();
    Ok((1 + above) as f64 / (1 + null.len()) as f64)
}

/// p of each of several statistics (one per layer, on one scale) such that the chance of any false one below α is at most α:
/// the step-down maximum of Westfall & Young 1993, *Resampling-based multiple testing*, algorithm 4.1.
///
/// `null` is `(permutations, layers)`; a row must come from one permutation of the labels. The best layer's p is that of the
/// maximum over layers.
///
/// # Errors
/// [`Error::Unpaired`] when the layers differ in number, [`Error::NoValue`] with the place in reading order, the observed
/// ones first.
pub fn max_p_values(observed: &[f64], null: ArrayView2<'_, f64>) -> Result<Vec<f64>, Error> {
    if null.ncols() != observed.len() {
        return Err(Error::Unpaired { what: "layers", expected: observed.len(), got: null.ncols() });
    }
    finite(observed.iter().chain(null.iter()))?;
    let mut descending: Vec<usize> = (0..observed.len()).collect();
    descending.sort_by(|&a, &b| observed[b].total_cmp(&observed[a]));
    // From the lowest up, each is compared with the largest of those not above it.
    let mut above = vec![1_usize; observed.len()];
    for permutation in null.outer_iter() {
        let mut largest = f64::NEG_INFINITY;
        for &layer in descending.iter().rev() {
            largest = largest.max(permutation[layer]);
            above[layer] += usize::from(largest >= observed[layer]);
        }
    }
    let (mut p, mut least) = (vec![0.0; observed.len()], 0.0_f64);
    for layer in descending {
        least = least.max(above[layer] as f64 / (1 + null.nrows()) as f64);
        p[layer] = least;
    }
    Ok(p)
}

fn finite<'a>(mut values: impl Iterator<Item = &'a f64>) -> Result<(), Error> {
    values.position(|value| !value.is_finite()).map_or(Ok(()), |place| Err(Error::NoValue { place }))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn permutations(y: &[u32], groups: &[u64], seed: u64) -> Permutations {
        Permutations::new(&Labels::Classes { y, n_classes: 9 }, groups, seed).unwrap()
    }

    fn uniform(seed: u64, id: u64, i: u64) -> f64 {
        draw(seed, b"layerscope/test of perms", id, i) as f64 / 2.0_f64.powi(64)
    }

    #[test]
    fn p_by_hand() {
        assert_eq!(p_value(3.0, &[1.0, 3.0, 5.0, 2.0]).unwrap(), 3.0 / 5.0);
        assert_eq!(p_value(9.0, &[1.0; 99]).unwrap(), 0.01);
        assert_eq!(p_value(9.0, &[]).unwrap(), 1.0);
        assert!(matches!(p_value(f64::NAN, &[0.0]), Err(Error::NoValue { place: 0 })));
        assert!(matches!(p_value(0.0, &[0.0, f64::NAN]), Err(Error::NoValue { place: 2 })));
    }

    #[test]
    fn step_down_by_hand() {
        // Observed 5, 3, 1. Maxima of all: 4, 6, 2; of the lower two: 4, 0, 2; of the last: 4, 0, 0.
        let null = array![[0.0, 0.0, 4.0], [6.0, 0.0, 0.0], [1.0, 2.0, 0.0]];
        assert_eq!(max_p_values(&[5.0, 3.0, 1.0], null.view()).unwrap(), [0.5, 0.5, 0.5]);
        // 3, 3 and 3 of 3 are at or above the first: the lower cannot be more significant than the higher.
        let null = array![[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]];
        assert_eq!(max_p_values(&[5.0, 3.0, 1.0], null.view()).unwrap(), [1.0, 1.0, 1.0]);
        assert_eq!(max_p_values(&[1.0, 9.5], null.slice(ndarray::s![.., ..2])).unwrap(), [1.0, 0.25]);
        let wide = max_p_values(&[1.0], null.view());
        assert!(matches!(wide, Err(Error::Unpaired { what: "layers", expected: 1, got: 3 })));
    }

    #[test]
    fn groups_keep_one_label_each() {
        let groups: Vec<u64> = (0..40).map(|row| row / 4).collect();
        let y: Vec<u32> = groups.iter().map(|&g| u32::from(g >= 4)).collect();
        let permutations = permutations(&y, &groups, 1);
        assert_eq!(permutations.exchange(), Exchange::Groups);
        let (mut moved, mut firsts) = (0, 0);
        for round in 0..100 {
            let labels = permutations.labels(&y, round);
            assert!(labels.chunks(4).all(|group| group.iter().all(|&l| l == group[0])));
            assert_eq!(labels.iter().sum::<u32>(), 24);
            moved += u32::from(labels != y);
            firsts += labels[0];
        }
        assert!(moved > 90 && (45..75).contains(&firsts), "{moved} {firsts}"); // 60 of 100 expected
        assert_eq!(permutations.labels(&y, 7), permutations.labels(&y, 7));
    }

    #[test]
    fn varying_labels_stay_within_their_group() {
        let groups = [8, 3, 8, 3, 8, 3, 8, 5];
        let y = [0, 2, 1, 3, 0, 2, 1, 4];
        let permutations = permutations(&y, &groups, 1);
        assert_eq!(permutations.exchange(), Exchange::WithinGroups);
        let of_group = |labels: &[u32], id: u64| {
            let mut labels: Vec<u32> =
                labels.iter().zip(groups).filter(|(_, g)| *g == id).map(|(&l, _)| l).collect();
            labels.sort_unstable();
            labels
        };
        let rounds: Vec<Vec<u32>> = (0..50).map(|round| permutations.labels(&y, round)).collect();
        for labels in &rounds {
            assert!([8, 3, 5].iter().all(|&id| of_group(labels, id) == of_group(&y, id)));
        }
        assert!(rounds.iter().any(|labels| labels[1] == 3) && rounds.iter().any(|labels| labels[0] == 1));
    }

    #[test]
    fn p_is_uniform_under_the_null() {
        let groups: Vec<u64> = (0..60).map(|row| row / 3).collect();
        let mut low = [0; 2];
        for seed in 0..400 {
            let y: Vec<u32> = groups.iter().map(|&g| u32::from(uniform(seed, g, 0) < 0.5)).collect();
            let x: Vec<f64> = groups.iter().map(|&g| uniform(seed, g, 1)).collect(); // the group's, like the label
            let statistic =
                |labels: &[u32]| labels.iter().zip(&x).map(|(&l, x)| f64::from(l) * x).sum::<f64>();
            let permutations = permutations(&y, &groups, seed);
            let null: Vec<f64> = (0..99).map(|round| statistic(&permutations.labels(&y, round))).collect();
            let p = p_value(statistic(&y), &null).unwrap();
            low[0] += u32::from(p <= 0.05);
            low[1] += u32::from(p <= 0.5);
        }
        assert!((8..=34).contains(&low[0]) && (165..=235).contains(&low[1]), "{low:?}"); // 20 and 200 expected
    }

    #[test]
    fn the_maximum_holds_the_family_and_finds_a_planted_layer() {
        let permutations = 99;
        let mut false_ones = 0;
        for seed in 0..300 {
            let value = |(i, layer): (usize, usize)| uniform(seed, layer as u64, i as u64);
            let all = Array2::from_shape_fn((permutations + 1, 10), value);
            let (null, mut observed) = (all.slice(ndarray::s![1.., ..]), all.row(0).to_vec());
            let least = max_p_values(&observed, null).unwrap().into_iter().fold(1.0, f64::min);
            false_ones += u32::from(least <= 0.05);
            observed[4] = 1.1;
            assert_eq!(max_p_values(&observed, null).unwrap()[4], 0.01);
        }
        assert!((4..=28).contains(&false_ones), "{false_ones}"); // 15 expected
    }

    #[test]
    fn bad_labels_are_refused() {
        let new =
            |y: &[u32], groups: &[u64]| Permutations::new(&Labels::Classes { y, n_classes: 9 }, groups, 0);
        assert!(matches!(new(&[0], &[1, 2]), Err(Error::Length { rows: 2, labels: 1 })));
        assert!(matches!(new(&[], &[]), Err(Error::Empty)));
        assert_eq!(new(&[3], &[1]).unwrap().rows(5), [0]);
    }

    #[test]
    fn numbers_move_with_their_group() {
        let y = array![[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]];
        let new = |groups: &[u64]| Permutations::new(&Labels::Numbers(y.view()), groups, 0).unwrap();
        assert_eq!(new(&[6, 6, 7, 7]).exchange(), Exchange::Groups);
        assert_eq!(new(&[6, 7, 7, 7]).exchange(), Exchange::WithinGroups);
        let rows: Vec<Vec<usize>> = (0..20).map(|round| new(&[6, 6, 7, 7]).rows(round)).collect();
        assert!(rows.iter().all(|r| r == &[0, 0, 2, 2] || r == &[2, 2, 0, 0]));
        assert!(rows.iter().any(|r| r[0] == 2) && rows.iter().any(|r| r[0] == 0));
    }
}
