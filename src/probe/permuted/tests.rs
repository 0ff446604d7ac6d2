//! What the test finds where there is nothing, something, and next to no groups.

use layerscope_probes::p_value;
use rayon::prelude::*;

use super::*;
use crate::sources::labelled::Unit;

const CLASSIFIERS: [Estimator; 5] =
    [Estimator::Logistic, Estimator::Ridge, Estimator::MeanDiff, Estimator::Lda, Estimator::Centroid];

fn options() -> Options {
    Options { l2: vec![1.0, 100.0], standardise: true, balanced: false, paired: false }
}

fn task(y: Vec<u32>, groups: Vec<u64>) -> Task {
    let target = Target::Classes { y, names: vec!["no".into(), "yes".into()] };
    let windows = (0..groups.len() as u32).collect();
    Task { target, groups, types: None, windows, unit: Unit::Text }
}

/// A number of the place and the seed, uniform in [0, 1): `SplitMix64`.
fn uniform(seed: u64, place: usize) -> f64 {
    let mut z = (seed << 32 | place as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / 2_f64.powi(53)
}

fn p(x: &Array2<f32>, task: &Task, estimator: Estimator, seed: u64, permutations: usize) -> f64 {
    let options = options();
    let test = PermutationTest::new(x.view(), task, &options, seed).unwrap();
    let values = test.values(estimator, permutations).unwrap().unwrap();
    p_value(values[0], &values[1..]).unwrap()
}

/// States of 48 rows in `of` groups, alike within a group; the state of a class is further along the first dimension.
fn states(seed: u64, groups: &[u64], y: &[u32], signal: f32) -> Array2<f32> {
    Array2::from_shape_fn((groups.len(), 3), |(row, dim)| {
        let own = uniform(seed, 3 * row + dim) - 0.5;
        let of_group = uniform(seed + 1000, 3 * groups[row] as usize + dim) - 0.5;
        (own + of_group) as f32 + if dim == 0 { signal * y[row] as f32 } else { 0.0 }
    })
}

/// Rows of their own, whole groups, groups of other sizes with mixed labels; in each P(p ≤ .05) is .05 where the states
/// say nothing. Of 300 draws 15 are expected, with a standard deviation of 3.8.
#[test]
fn nothing_is_found_as_often_as_promised() {
    let of = |groups: &[u64], row: usize, seed: u64, kind: u8| -> u32 {
        let place =
            if kind == 1 || (kind == 2 && !row.is_multiple_of(3)) { groups[row] as usize } else { 500 + row };
        u32::from(uniform(seed + 5000, place) < 0.5)
    };
    for kind in 0..3_u8 {
        let group = |row: u64| [row, row / 3, (row / 2).min(row / 4 + 6)][kind as usize];
        let groups: Vec<u64> = (0..48).map(group).collect();
        let mut found = [0; 5];
        for seed in 0..300 {
            let y: Vec<u32> = (0..48).map(|row| of(&groups, row, seed, kind)).collect();
            let x = states(seed, &groups, &y, 0.0);
            let task = task(y, groups.clone());
            for (found, estimator) in found.iter_mut().zip(CLASSIFIERS) {
                *found += u32::from(p(&x, &task, estimator, seed, 19) <= 0.05);
            }
        }
        assert!(found.iter().all(|n| (4..=27).contains(n)), "kind {kind}: {found:?}");
    }
}

/// The set of the issue: groups of one label each but for one row.
#[test]
fn one_flipped_row_hides_nothing() {
    let groups: Vec<u64> = (0..160).map(|row| row / 4).collect();
    let mut y: Vec<u32> = groups.iter().map(|group| (group % 2) as u32).collect();
    for flipped in [false, true] {
        let x = states(3, &groups, &y, 5.0);
        if flipped {
            y[7] ^= 1;
        }
        let task = task(y.clone(), groups.clone());
        for estimator in CLASSIFIERS {
            assert_eq!(p(&x, &task, estimator, 1, 199), 1.0 / 200.0, "{estimator:?} {flipped}");
        }
    }
}

/// Six groups of one label each have 20 ways: a p-value, however few there are; of two groups no parts can be made.
#[test]
fn few_groups_give_a_value_or_say_why() {
    let groups: Vec<u64> = (0..24).map(|row| row / 4).collect();
    let y: Vec<u32> = groups.iter().map(|group| (group % 2) as u32).collect();
    let (x, six) = (states(3, &groups, &y, 5.0), task(y, groups));
    assert_eq!(exchange(&six, 99).unwrap(), (Exchange::Groups, Some(20.0)));
    for estimator in CLASSIFIERS {
        for seed in 0..20 {
            let p = p(&x, &six, estimator, seed, 99);
            assert!((0.01..=1.0).contains(&p), "{p}");
        }
    }
    let two = task(vec![0, 0, 1, 1], vec![0, 0, 1, 1]);
    let refused = PermutationTest::new(x.view(), &two, &options(), 0).err().unwrap().to_string();
    assert!(refused.contains("2 groups"), "{refused}");
}

/// Labels of one kind and how a set of 48 rows is grouped.
#[derive(Debug, Clone, Copy)]
enum Case {
    /// Numbers of rows of their own, of whole groups of 3, of rows in groups of 2 and 4 with a part in common.
    Numbers(u8),
    /// Pairs, whose directions are found without labels: the same three.
    Pairs(u8),
    /// Groups of 2 and 4 rows, one half of each of either class.
    Within,
}

impl Case {
    const ALL: [Self; 7] = [
        Self::Numbers(0),
        Self::Numbers(1),
        Self::Numbers(2),
        Self::Pairs(0),
        Self::Pairs(1),
        Self::Pairs(2),
        Self::Within,
    ];

    fn estimators(self) -> &'static [Estimator] {
        match self {
            Self::Numbers(_) => &[Estimator::Ridge],
            Self::Pairs(_) => &[Estimator::Ccs, Estimator::Crc],
            Self::Within => &CLASSIFIERS,
        }
    }

    fn groups(self) -> Vec<u64> {
        let kind = match self {
            Self::Numbers(kind) | Self::Pairs(kind) => kind,
            Self::Within => 2,
        };
        (0..48).map(|row: u64| [row, row / 3, (row / 2).min(row / 4 + 6)][usize::from(kind)]).collect()
    }

    /// States that say nothing of the labels, which have as much in common within groups as the states have.
    fn draw(self, seed: u64) -> (Array2<f32>, Task, Options) {
        let groups = self.groups();
        let own = |row: usize| uniform(seed + 5000, 500 + row) - 0.5;
        let of_group = |row: usize| uniform(seed + 5000, groups[row] as usize) - 0.5;
        let label = |row: usize, kind: u8| match kind {
            0 => own(row),
            1 => of_group(row),
            _ => own(row) + of_group(row),
        };
        let classes = |class: &dyn Fn(usize) -> bool| (0..48).map(|row| u32::from(class(row))).collect();
        let x = states(seed, &groups, &[0; 48], 0.0);
        let (x, target) = match self {
            Self::Numbers(kind) => {
                (x, Target::Numbers(Array2::from_shape_fn((48, 1), |(row, _)| label(row, kind))))
            }
            Self::Pairs(kind) => {
                let negations = states(seed + 9000, &groups, &[0; 48], 0.0);
                let x = ndarray::concatenate(Axis(1), &[x.view(), negations.view()]).unwrap();
                (x, task(classes(&|row| label(row, kind) > 0.0), groups.clone()).target)
            }
            Self::Within => (x, task(classes(&|row| row % 2 == 0), groups.clone()).target),
        };
        let paired = matches!(self, Self::Pairs(_));
        (x, Task { target, ..task(vec![0; 48], groups) }, Options { paired, ..options() })
    }

    /// How many of so many sets have p ≤ .05, by estimator.
    fn found(self, draws: u64) -> Vec<usize> {
        let found = |seed: u64| -> Vec<bool> {
            let (x, task, options) = self.draw(seed);
            let test = PermutationTest::new(x.view(), &task, &options, seed).unwrap();
            let p = |estimator: &Estimator| {
                let values = test.values(*estimator, 19).unwrap().unwrap();
                p_value(values[0], &values[1..]).unwrap()
            };
            self.estimators().iter().map(|estimator| p(estimator) <= 0.05).collect()
        };
        let all: Vec<Vec<bool>> = (0..draws).into_par_iter().map(found).collect();
        (0..self.estimators().len()).map(|place| all.iter().filter(|found| found[place]).count()).collect()
    }
}

/// The schemes that these cases are meant to try.
#[test]
fn cases_are_exchanged_as_they_say() {
    let scheme = |case: Case, seed: u64| exchange(&case.draw(seed).1, 19).unwrap().0;
    for seed in 0..10 {
        let schemes = Case::ALL.map(|case| scheme(case, seed));
        let [whole, both, within] = [Exchange::Groups, Exchange::Both, Exchange::WithinGroups];
        assert_eq!(schemes, [whole, whole, both, whole, whole, both, within]);
    }
}

/// Numbers, pairs and exchange within groups. Of 200 sets 10 are expected, with a standard deviation of 3.1.
#[test]
fn of_numbers_pairs_and_within_groups_nothing_is_found_as_often_as_promised() {
    for case in Case::ALL {
        let found = case.found(200);
        assert!(found.iter().all(|n| (1..=21).contains(n)), "{case:?}: {found:?}");
    }
}

/// Of 6000 sets 300 are expected, with a standard deviation of 17.
#[test]
#[ignore = "minutes"]
#[allow(clippy::print_stdout)] // its table, for the docs
fn of_numbers_pairs_and_within_groups_long() {
    let all = Case::ALL.map(|case| {
        let found = case.found(6000);
        println!("{case:?}: {:?}", found.iter().map(|n| *n as f64 / 6000.0).collect::<Vec<_>>());
        found
    });
    assert!(all.iter().flatten().all(|n| (180..=360).contains(n)), "{all:?}");
}
