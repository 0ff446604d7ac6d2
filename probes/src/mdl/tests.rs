//! The code by hand, what it may not know, and labels that mean nothing.

use super::*;
use crate::draw::{tests::normal, uniform};
use crate::{Logistic, Probe as _, Whitened};

fn message<'a>(y: &'a [u32], n_classes: usize, groups: &'a [u64]) -> Message<'a> {
    Message { y, n_classes, groups, seed: 1 }
}

/// Log-probabilities of `p` for the true class and the rest shared out.
fn sure(y: &[u32], n_classes: usize, p: f64, block: &[usize]) -> Array2<f64> {
    let of = |(i, class): (usize, usize)| {
        let right = y[block[i]] as usize == class;
        (if right { p } else { (1.0 - p) / (n_classes as f64 - 1.0) }).ln()
    };
    Array2::from_shape_fn((block.len(), n_classes), of)
}

fn one(message: &Message<'_>, order: u64, p: f64) -> CodeLength {
    let k = message.n_classes;
    let mut fit = |y: &[u32], _: &[usize], block: &[usize]| Ok::<_, Error>(vec![sure(y, k, p, block)]);
    online_code(message, order, &mut fit).unwrap()
}

#[test]
fn the_formula_by_hand() {
    // 1000 rows of their own, 2 classes: blocks end at 1, 2, 4, 8, 16, 32, 63, 125, 250, 500, 1000.
    let y: Vec<u32> = (0..1000).map(|row| row % 2).collect();
    let rows: Vec<u64> = (0..1000).collect();
    let ends = [1, 2, 4, 8, 16, 32, 63, 125, 250, 500, 1000];
    for order in 0..3 {
        let mut calls = Vec::new();
        let mut fit = |y: &[u32], before: &[usize], block: &[usize]| {
            calls.push((before.len(), block.len()));
            assert!(block.iter().all(|row| !before.contains(row)));
            Ok::<_, Error>(vec![sure(y, 2, 0.5_f64.sqrt(), block)]) // half a bit a row
        };
        let found = online_code(&message(&y, 2, &rows), order, &mut fit).unwrap();
        assert!(ends[1..5].contains(&found.uniform_rows)); // both classes are seen after 2 to 16 rows
        let uniform = found.uniform_rows as f64;
        let expected = uniform + 0.5 * (1000.0 - uniform);
        assert!((found.bits.iter().sum::<f64>() - expected).abs() < 1e-9);
        assert!((found.compression() - 1000.0 / expected).abs() < 1e-12);
        assert_eq!(calls.last(), Some(&(500, 500)));
        let known =
            |(before, block): &(usize, usize)| ends.contains(before) && ends.contains(&(before + block));
        assert!(calls.iter().all(known));
    }
}

#[test]
fn knowing_nothing_compresses_nothing() {
    let y: Vec<u32> = (0..300).map(|row| row % 3).collect();
    let rows: Vec<u64> = (0..300).collect();
    assert!((one(&message(&y, 3, &rows), 0, 1.0 / 3.0).compression() - 1.0).abs() < 1e-12);
    assert!(one(&message(&y, 3, &rows), 0, 0.1).compression() < 0.6);
}

/// Of three penalties the second is best in small blocks and the third in large ones. A block costs what the mixture
/// gives all its rows together: its weights are half those that the blocks before left, half even; whatever the block
/// itself says comes after.
#[test]
fn penalties_are_weighed_by_the_rows_before() {
    let y: Vec<u32> = (0..1000).map(|row| row % 2).collect();
    let rows: Vec<u64> = (0..1000).collect();
    let p = |block: usize, penalty: usize| {
        [[0.6, 0.9, 0.5], [0.6, 0.5, 0.999_999]][usize::from(block > 60)][penalty]
    };
    let mut blocks = Vec::new();
    let mut fit = |y: &[u32], _: &[usize], block: &[usize]| {
        blocks.push(block.to_vec());
        Ok::<_, Error>((0..3).map(|penalty| sure(y, 2, p(block.len(), penalty), block)).collect())
    };
    let found = online_code(&message(&y, 2, &rows), 0, &mut fit).unwrap();
    let mut weights = [1.0 / 3.0; 3];
    for block in &blocks {
        let mixed = weights.map(|w| 0.5 * w + 0.5 / 3.0);
        let joint: [f64; 3] = std::array::from_fn(|penalty| {
            mixed[penalty] * f64::powi(p(block.len(), penalty), block.len() as i32)
        });
        let sum: f64 = joint.iter().sum();
        let bits: f64 = block.iter().map(|row| found.bits[*row]).sum();
        assert!((bits + sum.log2()).abs() < 1e-9, "{bits} {}", -sum.log2());
        weights = joint.map(|w| w / sum);
        // At most log2 6 bits more than the best.
        let best = (0..3).map(|penalty| -p(block.len(), penalty).log2()).fold(f64::INFINITY, f64::min);
        assert!(bits <= best * block.len() as f64 + 6.0_f64.log2() + 1e-9);
    }
    assert!(weights[2] > 0.999 && blocks.len() > 5);
}

/// A penalty whose probe gives the truth no chance is no failure where another's does: it has no weight but what is
/// shared out.
#[test]
fn a_penalty_that_rules_out_the_truth_is_left_alone() {
    let y: Vec<u32> = (0..200).map(|row| row % 2).collect();
    let rows: Vec<u64> = (0..200).collect();
    let mut blocks = 0.0;
    let mut fit = |y: &[u32], _: &[usize], block: &[usize]| {
        blocks += 1.0;
        Ok::<_, Error>(vec![sure(y, 2, 0.7, block), sure(y, 2, 0.0, block)])
    };
    let found = online_code(&message(&y, 2, &rows), 0, &mut fit).unwrap();
    let rest = 200.0 - found.uniform_rows as f64;
    // In the first block it has a half of the weight, in each later one a quarter.
    let expected = found.uniform_rows as f64 - rest * 0.7_f64.log2() + 1.0 - (blocks - 1.0) * 0.75_f64.log2();
    assert!((found.bits.iter().sum::<f64>() - expected).abs() < 1e-9);
}

#[test]
fn groups_stay_together_and_order_does_not_matter() {
    let groups: Vec<u64> = (0..200).map(|row| row / 9).collect();
    let y: Vec<u32> = (0..200).map(|row| row % 2).collect();
    let mut orders = Vec::new();
    for order in 0..4 {
        let mut fit = |y: &[u32], before: &[usize], block: &[usize]| {
            assert!(before.iter().all(|&a| block.iter().all(|&b| groups[a] != groups[b])));
            orders.push(block.to_vec());
            Ok::<_, Error>(vec![sure(y, 2, 0.9, block)])
        };
        let found = online_code(&message(&y, 2, &groups), order, &mut fit).unwrap();
        assert!([9, 2].contains(&found.uniform_rows)); // the first group; the last one has 2 rows
        let (turned_groups, turned_y): (Vec<u64>, Vec<u32>) =
            (0..200).rev().map(|row| (groups[row], y[row])).unzip();
        let turned = one(&message(&turned_y, 2, &turned_groups), order, 0.9);
        assert!((turned.compression() - found.compression()).abs() < 1e-12);
    }
    assert_ne!(orders[0], orders[orders.len() / 4]);
}

#[test]
fn until_every_class_is_seen_the_code_is_uniform() {
    // Class 2 is one row in 60: wherever it comes, no fit before its block is over.
    let y: Vec<u32> = (0..60).map(|row| if row == 30 { 2 } else { row % 2 }).collect();
    let rows: Vec<u64> = (0..60).collect();
    let mut fit = |y: &[u32], before: &[usize], block: &[usize]| {
        assert!(before.contains(&30));
        Ok::<_, Error>(vec![sure(y, 3, 0.8, block)])
    };
    let late = (0..8).map(|order| online_code(&message(&y, 3, &rows), order, &mut fit).unwrap().uniform_rows);
    assert!(late.max().unwrap() > 30);
    // One group: one block, nothing to fit to.
    let alone = one(&message(&y, 3, &[7; 60]), 0, 0.8);
    assert_eq!(alone.uniform_rows, 60);
    assert!((alone.compression() - 1.0).abs() < 1e-12);
}

/// Logistic regression of states that say nothing: labels as they are cost what shuffled ones do, more than log2 K bits
/// each; of states that say something they cost less.
#[test]
fn labels_that_mean_nothing_cost_what_shuffled_ones_do() {
    let (n, d, runs) = (120, 12, 24);
    let groups: Vec<u64> = (0..n as u64).map(|row| row / 2).collect();
    let code = |run: u64, signal: f64| {
        let x = normal(n, d, run);
        let mut random = crate::draw::stream(run, b"layerscope/test of codes", 0);
        let y: Vec<u32> = (0..n)
            .map(|row| {
                u32::from(uniform(&mut random) < 1.0 / (1.0 + (-signal * f64::from(x[[row, 0]])).exp()))
            })
            .collect();
        let logistic = Logistic { tolerance: 1e-6, ..Logistic::default() };
        let mut fit = |y: &[u32], before: &[usize], block: &[usize]| -> Result<Vec<Array2<f64>>, Error> {
            let own: Vec<u32> = before.iter().map(|row| y[*row]).collect();
            let rows = |rows: &[usize]| x.select(ndarray::Axis(0), rows);
            let whitened = Whitened::new(rows(before).view(), true)?;
            let labels = Labels::Classes { y: &own, n_classes: 2 };
            let fitted = logistic.path(&whitened, &labels, &[100.0, 10.0, 1.0])?;
            fitted.iter().map(|probe| probe.scores(rows(block).view())).collect()
        };
        let message = Message { y: &y, n_classes: 2, groups: &groups, seed: run };
        let own =
            (0..2).map(|order| online_code(&message, order, &mut fit).unwrap().compression()).sum::<f64>()
                / 2.0;
        let shuffled = shuffled_codes(&message, 2, &mut fit).unwrap();
        (own, shuffled.iter().map(CodeLength::compression).sum::<f64>() / 2.0)
    };
    let gaps: Vec<(f64, f64)> = (0..runs).map(|run| code(run, 0.0)).collect();
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| gaps.iter().map(of).sum::<f64>() / runs as f64;
    let (own, control) = (mean(&|g| g.0), mean(&|g| g.1));
    let gap = mean(&|g| g.0 - g.1);
    let error = (mean(&|g| (g.0 - g.1 - gap).powi(2)) / runs as f64).sqrt();
    assert!(gap.abs() < 4.0 * error && error < 0.02, "{gap} ± {error}");
    assert!(own < 0.97 && control < 0.97, "{own} {control}");
    let (own, control) = code(1, 4.0);
    assert!(own > 1.05 && control < 1.0, "{own} {control}");
}

/// A group of one row gives its label to one of six and takes its labels from there: where the only row of a class
/// moves it may be lost, and another shuffle is drawn.
#[test]
fn shuffled_labels_keep_every_class() {
    let groups = [vec![0; 6], vec![1; 6], vec![2], vec![3; 4]].concat();
    let y: Vec<u32> = (0..17).map(|row| if row == 0 { 2 } else { row % 2 }).collect();
    let mut seen = 0;
    let mut fit = |y: &[u32], _: &[usize], block: &[usize]| {
        assert!([0, 1, 2].iter().all(|class| y.contains(class)));
        seen += 1;
        Ok::<_, Error>(vec![sure(y, 3, 0.5, block)])
    };
    assert_eq!(shuffled_codes(&message(&y, 3, &groups), 6, &mut fit).unwrap().len(), 6);
    assert!(seen > 0);
}

#[test]
fn bad_input_is_refused() {
    let rows: Vec<u64> = (0..40).collect();
    let y: Vec<u32> = (0..40).map(|row| row % 2).collect();
    let with = |probs: &dyn Fn(usize) -> Vec<Array2<f64>>| {
        let mut fit = |_: &[u32], _: &[usize], block: &[usize]| Ok::<_, Error>(probs(block.len()));
        online_code(&message(&y, 2, &rows), 0, &mut fit).unwrap_err()
    };
    let alone = |probs: fn(usize) -> Array2<f64>| with(&|n| vec![probs(n)]);
    assert!(matches!(alone(|n| Array2::zeros((n, 2))), Error::NotProbabilities { sum: 2.0, .. }));
    assert!(matches!(alone(|n| Array2::from_elem((n, 2), f64::NAN)), Error::NotProbabilities { .. }));
    assert!(matches!(alone(|n| Array2::zeros((n, 3))), Error::Width { expected: 2, got: 3 }));
    assert!(matches!(alone(|n| Array2::zeros((n + 1, 2))), Error::Length { .. }));
    let impossible = |(_, class): (usize, usize)| if class == 0 { 0.0 } else { f64::NEG_INFINITY };
    assert!(matches!(with(&|n| vec![Array2::from_shape_fn((n, 2), impossible)]), Error::NotFinite { .. }));
    assert!(matches!(with(&|_| Vec::new()), Error::Empty));
    let error = |y: &[u32], k, groups: &[u64]| {
        let mut fit = |_: &[u32], _: &[usize], _: &[usize]| Err(Error::Empty);
        let message = message(y, k, groups);
        let (one, all) = (online_code(&message, 0, &mut fit), shuffled_codes(&message, 1, &mut fit));
        let one = one.unwrap_err().to_string();
        assert_eq!(one, all.unwrap_err().to_string());
        one
    };
    assert_eq!(error(&[0, 1], 2, &[1]), "1 row but 2 labels");
    assert_eq!(error(&[], 2, &[]), "no rows");
    assert_eq!(error(&[0, 0], 2, &[1, 2]), "no row of class 1");
    assert_eq!(error(&[0, 0], 1, &[1, 2]), "1 class, expected two or more");
    assert_eq!(error(&[0, 2], 2, &[1, 2]), "row 1: class 2, but there are 2 classes");
}
