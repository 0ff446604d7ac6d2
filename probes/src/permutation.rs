//! Permutation tests: how often labels that are shuffled do as well.
//!
//! Labels are exchanged the way the null hypothesis allows (Winkler et al. 2015, *Multi-level block permutation*):
//! where every group has one label, groups exchange theirs whole; where all groups have the same labels in the same
//! shares, rows exchange theirs within their group; else groups exchange theirs whole and the rows of each then
//! exchange what they got. Shuffling single rows of a grouped set would make everything significant, and keeping a set
//! of groups in place because one row of one of them differs would make nothing significant.

use ndarray::ArrayView2;

use crate::draw::{Purpose, draw, shuffled};
use crate::groups::Groups;
use crate::{Error, Labels};

const PURPOSE: &Purpose = b"layerscope/permute-label";
const SOURCE: &Purpose = b"layerscope/permute-given";
const TARGET: &Purpose = b"layerscope/permute-taken";

/// What a permutation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Labels of whole groups; with a group per row, of rows.
    Groups,
    /// Labels of rows within their group.
    WithinGroups,
    /// Labels of whole groups, then of the rows within them.
    Both,
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Groups => "whole groups exchange their labels",
            Self::WithinGroups => "rows exchange their labels within their group",
            Self::Both => "groups exchange their labels, then rows within each group",
        })
    }
}

/// Labels of grouped rows, to be permuted.
#[derive(Debug, Clone)]
pub struct Permutations {
    /// The rows of each group, groups ascending by id.
    groups: Vec<Vec<usize>>,
    ids: Vec<u64>,
    exchange: Exchange,
    /// How many groups have each label, where every group has one.
    of_label: Vec<usize>,
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
        let kinds = kinds(labels);
        let mut shares: Vec<Vec<usize>> = rows.iter().map(|rows| kinds_of(&kinds, rows)).collect();
        let exchange = if shares.iter().all(|kinds| kinds.first() == kinds.last()) {
            Exchange::Groups
        } else {
            shares.sort_unstable();
            shares.dedup_by(|a, b| same_shares(a, b));
            if shares.len() == 1 { Exchange::WithinGroups } else { Exchange::Both }
        };
        let mut of_label: Vec<usize> = rows.iter().map(|rows| kinds[rows[0]]).collect();
        of_label.sort_unstable();
        let of_label = of_label.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
        Ok(Self { groups: rows, ids: groups.ids, exchange, of_label, seed })
    }

    /// What is exchanged.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// How many different ways there are to give the groups their labels, n! / (n₁! n₂! …), where every group has one
    /// label: p cannot be below one in as many. None where rows exchange labels, which has more ways than anybody
    /// draws.
    pub fn ways(&self) -> Option<f64> {
        let ln_factorial = |n: usize| (2..=n).map(|i| (i as f64).ln()).sum::<f64>();
        let ln = self.of_label.iter().fold(ln_factorial(self.groups.len()), |ln, &n| ln - ln_factorial(n));
        (self.exchange == Exchange::Groups).then(|| ln.exp().round())
    }

    /// Permutation number `round`: for each row, the row whose label it gets. A group whose labels go to a larger one
    /// gives each to more rows, to a smaller one to fewer.
    pub fn rows(&self, round: u64) -> Vec<usize> {
        let from = match self.exchange {
            Exchange::WithinGroups => (0..self.groups.len()).collect(),
            Exchange::Groups | Exchange::Both => shuffled(self.seed, PURPOSE, round, &self.ids),
        };
        let mut out = vec![0; self.groups.iter().map(Vec::len).sum()];
        for (to, from) in from.into_iter().enumerate() {
            let (target, source) = (self.order(to, round, TARGET), self.order(from, round, SOURCE));
            for (place, row) in target.iter().enumerate() {
                out[*row] = source[place * source.len() / target.len()];
            }
        }
        out
    }

    /// The rows of a group in a random order; in their own where they have one label.
    fn order(&self, group: usize, round: u64, purpose: &Purpose) -> Vec<usize> {
        let rows = &self.groups[group];
        if self.exchange == Exchange::Groups {
            return rows.clone();
        }
        // Rows are told apart by their place in the group.
        let places: Vec<u64> = (0..rows.len() as u64).collect();
        let seed = draw(self.seed, purpose, self.ids[group], 0);
        shuffled(seed, purpose, round, &places).into_iter().map(|place| rows[place]).collect()
    }

    /// The classes `y` permuted.
    pub fn labels(&self, y: &[u32], round: u64) -> Vec<u32> {
        self.rows(round).into_iter().map(|row| y[row]).collect()
    }
}

/// Rows with equal labels have equal numbers.
fn kinds(labels: &Labels<'_>) -> Vec<usize> {
    match labels {
        Labels::Classes { y, .. } => y.iter().map(|&class| class as usize).collect(),
        Labels::Numbers(y) => {
            let bits = |row| y.row(row).iter().map(|value: &f64| value.to_bits()).collect::<Vec<_>>();
            let mut distinct: Vec<_> = (0..y.nrows()).map(bits).collect();
            distinct.sort_unstable();
            distinct.dedup();
            (0..y.nrows()).map(|row| distinct.partition_point(|other| *other < bits(row))).collect()
        }
    }
}

fn kinds_of(kinds: &[usize], rows: &[usize]) -> Vec<usize> {
    let mut kinds: Vec<usize> = rows.iter().map(|&row| kinds[row]).collect();
    kinds.sort_unstable();
    kinds
}

/// Whether two sorted lists have the same kinds in the same shares.
fn same_shares(a: &[usize], b: &[usize]) -> bool {
    let runs = |of: &[usize]| of.chunk_by(|x, y| x == y).map(|run| (run[0], run.len())).collect::<Vec<_>>();
    let (of_a, of_b) = (runs(a), runs(b));
    let same = |((x, in_a), (y, in_b)): (&(usize, usize), &(usize, usize))| {
        x == y && in_a * b.len() == in_b * a.len()
    };
    of_a.len() == of_b.len() && of_a.iter().zip(&of_b).all(same)
}

/// p of an observed statistic, larger being further from the null: (1 + permutations at or above it) / (1 +
/// permutations) (Phipson & Smyth 2010, "Permutation p-values should never be zero").
///
/// # Errors
/// [`Error::NoValue`]: `place` 0 for the observed one, from 1 on for the permutations.
pub fn p_value(observed: f64, null: &[f64]) -> Result<f64, Error> {
    let all = std::iter::once(&observed).chain(null);
    finite(all)?;
    let above = null.iter().filter(|&&value| value >= observed).count();
    Ok((1 + above) as f64 / (1 + null.len()) as f64)
}

/// p of each of several statistics (one per layer, on one scale) such that the chance of any false one below α is at
/// most α: the step-down maximum of Westfall & Young 1993, *Resampling-based multiple testing*, algorithm 4.1.
///
/// `null` is `(permutations, layers)`; a row must come from one permutation of the labels. The best layer's p is that
/// of the maximum over layers.
///
/// # Errors
/// [`Error::Unpaired`] when the layers differ in number, [`Error::NoValue`] with the place in reading order, the
/// observed ones first.
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
        assert_eq!(permutations.ways(), Some(210.0)); // 10! / (4! 6!)
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

    fn of_group(labels: &[u32], groups: &[u64], id: u64) -> Vec<u32> {
        let mut labels: Vec<u32> =
            labels.iter().zip(groups).filter(|(_, g)| **g == id).map(|(&l, _)| l).collect();
        labels.sort_unstable();
        labels
    }

    #[test]
    fn groups_of_the_same_labels_exchange_rows_alone() {
        // Shares of 1 to 2 to 1 in each, of four rows and of eight.
        let (mut groups, mut y) = (vec![8, 3, 8, 3, 8, 3, 8, 3], vec![0, 2, 1, 1, 1, 0, 2, 1]);
        groups.extend([5; 8]);
        y.extend([0, 1, 1, 2, 0, 1, 1, 2]);
        let permutations = permutations(&y, &groups, 1);
        assert_eq!(permutations.exchange(), Exchange::WithinGroups);
        let rounds: Vec<Vec<u32>> = (0..50).map(|round| permutations.labels(&y, round)).collect();
        for labels in &rounds {
            assert!([8, 3, 5].iter().all(|&id| of_group(labels, &groups, id) == of_group(&y, &groups, id)));
        }
        assert!([0, 1, 2].iter().all(|class| rounds.iter().any(|labels| labels[0] == *class)));
    }

    #[test]
    fn one_row_that_differs_does_not_fix_the_others() {
        let groups: Vec<u64> = (0..40).map(|row| row / 4).collect();
        let mut y: Vec<u32> = groups.iter().map(|&g| u32::from(g >= 4)).collect();
        y[0] = 1;
        let permutations = permutations(&y, &groups, 1);
        assert_eq!(permutations.exchange(), Exchange::Both);
        let (mut mixed, mut odd) = ([0; 10], [0; 4]);
        for round in 0..400 {
            let labels = permutations.labels(&y, round);
            // Still 3 groups of 0, one of 0, 0, 0, 1 and six of 1: groups of one size exchange what they have.
            let sums: Vec<u32> = labels.chunks(4).map(|group| group.iter().sum()).collect();
            let counts = [0, 1, 4].map(|sum| sums.iter().filter(|s| **s == sum).count());
            assert_eq!(counts, [3, 1, 6], "{sums:?}");
            let group = sums.iter().position(|sum| *sum == 1).unwrap();
            mixed[group] += 1;
            odd[labels[group * 4..][..4].iter().position(|label| *label == 1).unwrap()] += 1;
        }
        // 40 and 100 expected.
        assert!(mixed.iter().all(|n| (20..65).contains(n)) && odd.iter().all(|n| (65..140).contains(n)));
        assert_eq!(permutations.labels(&y, 7), permutations.labels(&y, 7));
    }

    #[test]
    fn groups_of_other_sizes_get_the_shares() {
        // Six rows of 0, 0, 1 and three of 2: the three get 0, 0, 1 or 2, 2, 2; the six 0, 0, 0, 0, 1, 1 or 2.
        let (groups, y) = ([1, 1, 1, 1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 1, 1, 2, 2, 2]);
        let permutations = permutations(&y, &groups, 4);
        assert_eq!(permutations.exchange(), Exchange::Both);
        let mut exchanged = 0;
        for round in 0..100 {
            let labels = permutations.labels(&y, round);
            let (large, small) = (of_group(&labels, &groups, 1), of_group(&labels, &groups, 2));
            if small == [2, 2, 2] {
                assert_eq!(large, [0, 0, 0, 0, 1, 1]);
            } else {
                // A half of the six, drawn at random.
                assert!(large == [2; 6] && small.len() == 3 && small.iter().all(|label| *label < 2));
                exchanged += 1;
            }
        }
        assert!((30..70).contains(&exchanged), "{exchanged}"); // 50 expected
    }

    /// Of labels of groups, of rows, and of groups with a row or two that differ: P(p ≤ α) is α.
    #[test]
    fn p_is_uniform_under_the_null() {
        let groups: Vec<u64> = (0..60).map(|row| row / 3).collect();
        for (noise, exchange) in [(0.0, Exchange::Groups), (0.1, Exchange::Both), (1.0, Exchange::Both)] {
            let mut low = [0; 2];
            for seed in 0..400 {
                let label = |(row, &g): (usize, &u64)| {
                    let of_row = uniform(seed, 1000 + row as u64, 2) < noise;
                    let id = if of_row { 1000 + row as u64 } else { g };
                    u32::from(uniform(seed, id, 0) < 0.5)
                };
                let y: Vec<u32> = groups.iter().enumerate().map(label).collect();
                // The group's, like the label.
                let x: Vec<f64> = groups.iter().map(|&g| uniform(seed, g, 1)).collect();
                let statistic =
                    |labels: &[u32]| labels.iter().zip(&x).map(|(&l, x)| f64::from(l) * x).sum::<f64>();
                let permutations = permutations(&y, &groups, seed);
                assert!(permutations.exchange() == exchange || noise == 0.1, "{noise} {seed}");
                let null: Vec<f64> = (0..99).map(|r| statistic(&permutations.labels(&y, r))).collect();
                let p = p_value(statistic(&y), &null).unwrap();
                low[0] += u32::from(p <= 0.05);
                low[1] += u32::from(p <= 0.5);
            }
            // 20 and 200 expected.
            assert!((8..=34).contains(&low[0]) && (165..=235).contains(&low[1]), "{noise}: {low:?}");
        }
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
        assert_eq!(new(&[6, 7, 7, 7]).exchange(), Exchange::Both);
        assert_eq!(new(&[6, 7, 6, 7]).exchange(), Exchange::WithinGroups);
        let rows: Vec<Vec<usize>> = (0..20).map(|round| new(&[6, 6, 7, 7]).rows(round)).collect();
        assert!(rows.iter().all(|r| r == &[0, 1, 2, 3] || r == &[2, 3, 0, 1]));
        assert!(rows.iter().any(|r| r[0] == 2) && rows.iter().any(|r| r[0] == 0));
    }
}
