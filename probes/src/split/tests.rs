use std::collections::HashSet;

use super::*;

fn classes_of(y: &[u32], n_classes: usize) -> Labels<'_> {
    Labels::Classes { y, n_classes }
}

/// 60 groups of 1 to 12 rows, 3 classes, the last rare.
fn rows(seed: u64) -> (Vec<u64>, Vec<u32>) {
    let (mut groups, mut y) = (Vec::new(), Vec::new());
    for group in 0..60 {
        for row in 0..=draw(seed, PURPOSE, group, 1) % 12 {
            groups.push(group * 1_000_003);
            y.push(match draw(seed, PURPOSE, group, 2 + row) % 20 {
                0 => 2,
                d => (d % 2) as u32,
            });
        }
    }
    (groups, y)
}

fn groups_of(part: &Part, groups: &[u64]) -> HashSet<u64> {
    part.rows.iter().map(|&row| groups[row]).collect()
}

#[test]
fn no_group_is_on_two_sides_and_classes_are_near_their_shares() {
    for seed in 0..200 {
        let (groups, y) = rows(seed);
        let split = Split::new(&groups, &classes_of(&y, 3), Shares::default(), seed).unwrap();
        let parts = [&split.train, &split.validation, &split.test];
        let mut seen = HashSet::new();
        for (part, share) in parts.into_iter().zip([0.6, 0.2, 0.2]) {
            let ids = groups_of(part, &groups);
            assert_eq!(ids.len(), part.groups);
            assert!(ids.iter().all(|id| seen.insert(*id)), "seed {seed}");
            let total = |class: u32| y.iter().filter(|&&c| c == class).count() as f64;
            let off = |class: u32| (part.classes[class as usize] as f64 - share * total(class)).abs();
            assert!(off(0) <= 8.0 && off(1) <= 8.0 && part.classes[2] > 0, "seed {seed}: {:?}", part.classes);
            assert_eq!(part.classes.iter().sum::<usize>(), part.rows.len());
        }
        assert_eq!(parts.iter().map(|p| p.rows.len()).sum::<usize>(), y.len());
    }
}

#[test]
fn rows_of_their_own_are_split_exactly() {
    let groups: Vec<u64> = (0..1000).collect();
    let y: Vec<u32> = (0..1000).map(|i| u32::from(i % 10 == 0)).collect();
    let split = Split::new(&groups, &classes_of(&y, 2), Shares::default(), 3).unwrap();
    assert_eq!(split.train.classes, [540, 60]);
    assert_eq!(split.validation.classes, [180, 20]);
    assert_eq!((split.test.classes, split.test.groups), (vec![180, 20], 200));
    let other = Split::new(&groups, &classes_of(&y, 2), Shares::default(), 4).unwrap();
    let common = split.test.rows.iter().filter(|row| other.test.rows.contains(row)).count();
    assert!((20..60).contains(&common), "{common}: 40 are expected of independent draws");
}

#[test]
fn the_order_of_the_rows_does_not_matter() {
    let (groups, y) = rows(1);
    let n = y.len();
    let back = |row: usize| n - 1 - row;
    let turned: (Vec<u64>, Vec<u32>) = (0..n).map(|row| (groups[back(row)], y[back(row)])).unzip();
    let one = folds(&groups, &classes_of(&y, 3), 4, 8).unwrap();
    let other = folds(&turned.0, &classes_of(&turned.1, 3), 4, 8).unwrap();
    for (one, other) in one.iter().zip(&other) {
        let mut rows: Vec<usize> = other.test.rows.iter().map(|&row| back(row)).collect();
        rows.sort_unstable();
        assert_eq!(rows, one.test.rows);
    }
}

#[test]
fn every_row_is_tested_once() {
    let (groups, y) = rows(2);
    let folds = folds(&groups, &classes_of(&y, 3), 5, 0).unwrap();
    let mut tested: Vec<usize> = folds.iter().flat_map(|fold| fold.test.rows.clone()).collect();
    tested.sort_unstable();
    assert_eq!(tested, (0..y.len()).collect::<Vec<_>>());
    for fold in folds {
        assert!(groups_of(&fold.train, &groups).is_disjoint(&groups_of(&fold.test, &groups)));
        assert_eq!(fold.train.rows.len() + fold.test.rows.len(), y.len());
        assert_eq!(fold.train.groups + fold.test.groups, 60);
    }
}

#[test]
fn a_class_in_three_groups_is_in_every_part() {
    let groups: Vec<u64> = (0..300).map(|row| row / 3).collect();
    let y: Vec<u32> = (0..300).map(|row| u32::from([4, 100, 299].contains(&row))).collect();
    for seed in 0..100 {
        let split = Split::new(&groups, &classes_of(&y, 2), Shares::default(), seed).unwrap();
        assert_eq!([split.train, split.validation, split.test].map(|p| p.classes[1]), [1, 1, 1]);
    }
}

#[test]
fn without_validation_and_for_numbers() {
    let shares = Shares { train: 0.5, validation: 0.0, test: 0.5 };
    let y = ndarray::Array2::zeros((8, 2));
    let split = Split::new(&[1, 1, 1, 1, 2, 2, 3, 3], &Labels::Numbers(y.view()), shares, 0).unwrap();
    assert_eq!((split.train.rows.len(), split.test.rows.len()), (4, 4));
    assert_eq!(split.validation, Part { classes: vec![0], ..Part::default() });
}

#[test]
fn what_cannot_be_split_says_why() {
    let error = |groups: &[u64], y: &[u32], n| {
        Split::new(groups, &classes_of(y, n), Shares::default(), 0).unwrap_err().to_string()
    };
    assert_eq!(error(&[], &[], 2), "no rows");
    assert_eq!(error(&[1, 2], &[0], 2), "2 rows but 1 label");
    assert_eq!(error(&[1, 2], &[0, 2], 2), "row 1: class 2, but there are 2 classes");
    assert_eq!(error(&[1, 2, 2], &[0, 0, 0], 1), "2 groups cannot make 3 parts");
    assert_eq!(error(&[1, 2, 3, 3], &[0, 0, 0, 1], 2), "class 1 is in 1 group, too few for 3 parts");
    assert_eq!(error(&[1, 2, 3, 4], &[0; 4], 2), "class 1 is in 0 groups, too few for 3 parts");
    // Each class is in three groups, but no three parts of the four groups have them all.
    let (groups, y) = ([1, 1, 2, 2, 3, 3, 4, 4, 4, 5], [0, 1, 0, 2, 1, 2, 0, 1, 2, 3]);
    assert_eq!(error(&groups, &y, 4), "class 3 is in 1 group, too few for 3 parts");
    assert!(error(&groups[..9], &y[..9], 3).contains("has no row of class"));
    let shares = Shares { train: 0.9, validation: 0.2, test: -0.1 };
    assert!(matches!(Split::new(&[1], &classes_of(&[0], 1), shares, 0), Err(Error::Shares { .. })));
    let nan = Shares { train: f64::NAN, ..Shares::default() };
    assert!(matches!(Split::new(&[1], &classes_of(&[0], 1), nan, 0), Err(Error::Shares { .. })));
    assert!(matches!(folds(&[1, 2], &classes_of(&[0, 0], 1), 1, 0), Err(Error::TooFewFolds { got: 1 })));
}

#[test]
fn two_groups_of_a_class_are_enough_for_two_parts() {
    let (groups, y) = ([1, 2, 3, 4], [0, 0, 1, 1]);
    let none_chosen_on = Shares { train: 0.5, validation: 0.0, test: 0.5 };
    let split = Split::new(&groups, &classes_of(&y, 2), none_chosen_on, 0).unwrap();
    assert_eq!((split.train.classes, split.test.classes), (vec![1, 1], vec![1, 1]));
    assert!(split.validation.rows.is_empty());
    for fold in folds(&groups, &classes_of(&y, 2), 2, 0).unwrap() {
        assert_eq!((fold.train.classes, fold.test.classes), (vec![1, 1], vec![1, 1]));
    }
}
