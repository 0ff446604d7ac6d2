//! Minimum description length: how short a code a probe makes of the labels (Voita & Titov 2020, "Information-theoretic
//! probing with minimum description length"), the online or prequential code.
//!
//! The labels are sent in blocks. The first costs log2 K bits a row; every later one is coded with a probe fitted to all
//! blocks before it. `L = t_1 log2 K - Σ_i Σ_{t_i < t <= t_{i+1}} log2 p_i(y_t | x_t)`; compression is `n log2 K / L`. A probe
//! that needs many rows to become good has a long code, however good it is in the end.

use ndarray::Array2;

use crate::Error;
use crate::draw::{Purpose, shuffled};
use crate::groups::Groups;

const PURPOSE: &Purpose = b"layerscope/mdl-row-order";

/// Where blocks end, as shares of the rows.
pub const PORTIONS: [f64; 11] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0];

/// How many bits the labels cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeLength {
    /// Bits of each row, the mean over shuffles, `(n,)`. Their mean m with its interval gives that of the compression:
    /// `bootstrap.mean(&bits)?.map(|m| log2_classes / m)`.
    pub bits: Vec<f64>,
    /// Bits of all rows, for each shuffle.
    pub totals: Vec<f64>,
    /// Rows that cost log2 K, for each shuffle: those before the first fit.
    pub uniform_rows: Vec<usize>,
    /// log2 of the number of classes.
    pub log2_classes: f64,
}

impl CodeLength {
    /// The uniform code's length over the mean length: 1 when nothing is known about the labels, below it when what was
    /// learnt is wrong.
    pub fn compression(&self) -> f64 {
        let mean = self.totals.iter().sum::<f64>() / self.totals.len() as f64;
        self.bits.len() as f64 * self.log2_classes / mean
    }
}

/// The code length of labels `y` of rows with these groups. Groups come in an order drawn from (seed, group, shuffle), and
/// blocks end with the first group that reaches a portion ([`PORTIONS`]): a probe never codes a group it was fitted to.
///
/// `fit(rows, block)` fits to `rows` and returns log-probabilities (nats) of the rows `block`, `(block, n_classes)`. It is
/// called only when `rows` has every class; until then rows cost log2 K each, and so they do in a portion too small to hold
/// a group. Several blocks that end with one group are one.
///
/// # Errors
/// What `fit` returns; [`Error::Length`], [`Error::Empty`] (no row or no shuffle), [`Error::TooFewClasses`],
/// [`Error::NoSuchClass`], [`Error::LacksClass`]; [`Error::Length`] or [`Error::Width`] for log-probabilities of another
/// shape, [`Error::NotProbabilities`], and [`Error::NotFinite`] for a true class of probability 0.
pub fn online_code<E: From<Error>>(
    y: &[u32],
    n_classes: usize,
    groups: &[u64],
    shuffles: u64,
    seed: u64,
    mut fit: impl FnMut(&[usize], &[usize]) -> Result<Array2<f64>, E>,
) -> Result<CodeLength, E> {
    check(y, n_classes, groups, shuffles)?;
    let groups = Groups::new(groups);
    let log2_classes = (n_classes as f64).log2();
    let (mut bits, mut totals, mut uniform_rows) = (vec![0.0; y.len()], Vec::new(), Vec::new());
    for shuffle in 0..shuffles {
        let (rows, ends) = blocks(&groups, seed, shuffle);
        let (mut total, mut uniform, mut start) = (0.0, 0, 0);
        for end in ends {
            let (before, block) = (&rows[..start], &rows[start..end]);
            let costs = if has_every_class(y, n_classes, before) {
                code(y, n_classes, block, &fit(before, block)?)?
            } else {
                uniform += block.len();
                vec![log2_classes; block.len()]
            };
            for (&row, cost) in block.iter().zip(costs) {
                bits[row] += cost / shuffles as f64;
                total += cost;
            }
            start = end;
        }
        totals.push(total);
        uniform_rows.push(uniform);
    }
    Ok(CodeLength { bits, totals, uniform_rows, log2_classes })
}

fn check(y: &[u32], n_classes: usize, groups: &[u64], shuffles: u64) -> Result<(), Error> {
    if groups.len() != y.len() {
        return Err(Error::Length { rows: groups.len(), labels: y.len() });
    }
    if y.is_empty() || shuffles == 0 {
        return Err(Error::Empty);
    }
    if n_classes < 2 {
        return Err(Error::TooFewClasses { got: n_classes });
    }
    if let Some((row, &class)) = y.iter().enumerate().find(|(_, class)| **class as usize >= n_classes) {
        return Err(Error::NoSuchClass { row, class, n_classes });
    }
    let all: Vec<usize> = (0..y.len()).collect();
    present(y, n_classes, &all)
        .iter()
        .position(|present| !present)
        .map_or(Ok(()), |class| Err(Error::LacksClass { class: class.into() }))
}

/// Rows in this shuffle's order, and where blocks end.
fn blocks(groups: &Groups, seed: u64, shuffle: u64) -> (Vec<usize>, Vec<usize>) {
    let of_group = groups.rows();
    let (mut rows, mut borders) = (Vec::with_capacity(groups.of_row.len()), Vec::new());
    for group in shuffled(seed, PURPOSE, shuffle, &groups.ids) {
        rows.extend(&of_group[group]);
        borders.push(rows.len());
    }
    let reached = |portion: &f64| {
        let at_least = portion * rows.len() as f64;
        borders[borders.partition_point(|&border| (border as f64) < at_least).min(borders.len() - 1)]
    };
    let mut ends: Vec<usize> = PORTIONS.iter().map(reached).collect();
    ends.dedup();
    (rows, ends)
}

fn present(y: &[u32], n_classes: usize, rows: &[usize]) -> Vec<bool> {
    let mut present = vec![false; n_classes];
    for &row in rows {
        present[y[row] as usize] = true;
    }
    present
}

fn has_every_class(y: &[u32], n_classes: usize, rows: &[usize]) -> bool {
    present(y, n_classes, rows).into_iter().all(|present| present)
}

/// Bits of each row of the block.
fn code(y: &[u32], n_classes: usize, block: &[usize], log_probs: &Array2<f64>) -> Result<Vec<f64>, Error> {
    if log_probs.nrows() != block.len() {
        return Err(Error::Length { rows: log_probs.nrows(), labels: block.len() });
    }
    if log_probs.ncols() != n_classes {
        return Err(Error::Width { expected: n_classes, got: log_probs.ncols() });
    }
    let bits = |(log_probs, &row): (ndarray::ArrayView1<'_, f64>, &usize)| {
        let sum = log_probs.iter().map(|l| l.exp()).sum::<f64>();
        if sum.is_nan() || (sum - 1.0).abs() > 1e-6 {
            return Err(Error::NotProbabilities { row, sum });
        }
        let bits = -log_probs[y[row] as usize] / std::f64::consts::LN_2;
        if bits.is_finite() { Ok(bits) } else { Err(Error::NotFinite { row }) }
    };
    log_probs.outer_iter().zip(block).map(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// log-probabilities of `p` for the true class and the rest shared out.
    fn sure(
        y: &[u32],
        n_classes: usize,
        p: f64,
    ) -> impl Fn(&[usize], &[usize]) -> Result<Array2<f64>, Error> {
        move |_, block| {
            let of = |(i, class): (usize, usize)| {
                let right = y[block[i]] as usize == class;
                (if right { p } else { (1.0 - p) / (n_classes as f64 - 1.0) }).ln()
            };
            Ok(Array2::from_shape_fn((block.len(), n_classes), of))
        }
    }

    #[test]
    fn the_formula_by_hand() {
        // 1000 rows of their own, 2 classes: blocks end at 1, 2, 4, 8, 16, 32, 63, 125, 250, 500, 1000.
        let y: Vec<u32> = (0..1000).map(|row| row % 2).collect();
        let rows: Vec<u64> = (0..1000).collect();
        let mut calls = Vec::new();
        let found = online_code(&y, 2, &rows, 3, 1, |before, block| {
            calls.push((before.len(), block.len()));
            assert!(block.iter().all(|row| !before.contains(row)));
            sure(&y, 2, 0.5_f64.sqrt())(before, block) // half a bit a row
        });
        let found = found.unwrap();
        let ends = [1, 2, 4, 8, 16, 32, 63, 125, 250, 500, 1000];
        for (total, &uniform) in found.totals.iter().zip(&found.uniform_rows) {
            assert!(ends[1..5].contains(&uniform), "{uniform}"); // both classes are seen after 2 to 16 rows
            let expected = uniform as f64 + 0.5 * (1000 - uniform) as f64;
            assert!((total - expected).abs() < 1e-9);
        }
        assert_eq!(calls.last(), Some(&(500, 500)));
        assert!(
            calls.iter().all(|(before, block)| ends.contains(before) && ends.contains(&(before + block)))
        );
        let mean = found.totals.iter().sum::<f64>() / 3.0;
        assert!((found.bits.iter().sum::<f64>() - mean).abs() < 1e-9);
        assert!((found.compression() - 1000.0 / mean).abs() < 1e-12);
    }

    #[test]
    fn knowing_nothing_compresses_nothing() {
        let y: Vec<u32> = (0..300).map(|row| row % 3).collect();
        let rows: Vec<u64> = (0..300).collect();
        let found = online_code(&y, 3, &rows, 2, 1, sure(&y, 3, 1.0 / 3.0)).unwrap();
        assert!((found.compression() - 1.0).abs() < 1e-12);
        let wrong = online_code(&y, 3, &rows, 2, 1, sure(&y, 3, 0.1)).unwrap();
        assert!(wrong.compression() < 0.6);
    }

    #[test]
    fn groups_stay_together_and_order_does_not_matter() {
        let groups: Vec<u64> = (0..200).map(|row| row / 9).collect();
        let y: Vec<u32> = (0..200).map(|row| row % 2).collect();
        let mut orders = Vec::new();
        let found = online_code(&y, 2, &groups, 4, 1, |before, block| {
            assert!(before.iter().all(|&a| block.iter().all(|&b| groups[a] != groups[b])));
            orders.push(block.to_vec());
            sure(&y, 2, 0.9)(before, block)
        });
        let found = found.unwrap();
        assert!(found.uniform_rows.iter().all(|&n| n == 9 || n == 2)); // the first group; the last one has 2 rows
        assert_ne!(orders[0], orders[orders.len() / 4]);
        let (turned_groups, turned_y): (Vec<u64>, Vec<u32>) =
            (0..200).rev().map(|row| (groups[row], y[row])).unzip();
        let turned = online_code(&turned_y, 2, &turned_groups, 4, 1, sure(&turned_y, 2, 0.9)).unwrap();
        assert!(turned.totals.iter().zip(&found.totals).all(|(a, b)| (a - b).abs() < 1e-9));
    }

    #[test]
    fn until_every_class_is_seen_the_code_is_uniform() {
        // Class 2 is one row in 60: wherever it comes, no fit before its block is over.
        let y: Vec<u32> = (0..60).map(|row| if row == 30 { 2 } else { row % 2 }).collect();
        let rows: Vec<u64> = (0..60).collect();
        let never = online_code(&y, 3, &rows, 8, 0, |before, block| {
            assert!(before.contains(&30));
            sure(&y, 3, 0.8)(before, block)
        });
        assert!(never.unwrap().uniform_rows.iter().any(|&n| n > 30));
        // One group: one block, nothing to fit to.
        let one = online_code(&y, 3, &[7; 60], 1, 0, |_, _| Err(Error::Empty)).unwrap();
        assert_eq!(one.uniform_rows, [60]);
        assert!((one.compression() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let rows: Vec<u64> = (0..40).collect();
        let y: Vec<u32> = (0..40).map(|row| row % 2).collect();
        let with = |probs: &dyn Fn(usize) -> Array2<f64>| {
            online_code(&y, 2, &rows, 1, 0, |_, block| Ok::<_, Error>(probs(block.len()))).unwrap_err()
        };
        assert!(matches!(with(&|n| Array2::zeros((n, 2))), Error::NotProbabilities { sum: 2.0, .. }));
        assert!(matches!(with(&|n| Array2::from_elem((n, 2), f64::NAN)), Error::NotProbabilities { .. }));
        assert!(matches!(with(&|n| Array2::zeros((n, 3))), Error::Width { expected: 2, got: 3 }));
        assert!(matches!(with(&|n| Array2::zeros((n + 1, 2))), Error::Length { .. }));
        let impossible = |(_, class): (usize, usize)| if class == 0 { 0.0 } else { f64::NEG_INFINITY };
        assert!(matches!(with(&|n| Array2::from_shape_fn((n, 2), impossible)), Error::NotFinite { .. }));
        let error = |y: &[u32], k, groups: &[u64], shuffles| {
            online_code(y, k, groups, shuffles, 0, |_, _| Err(Error::Empty)).unwrap_err().to_string()
        };
        assert_eq!(error(&[0, 1], 2, &[1], 1), "1 row but 2 labels");
        assert_eq!(error(&[], 2, &[], 1), "no rows");
        assert_eq!(error(&[0, 0], 2, &[1, 2], 1), "no row of class 1");
        assert_eq!(error(&[0, 0], 1, &[1, 2], 1), "1 class, expected two or more");
        assert_eq!(error(&[0, 2], 2, &[1, 2], 1), "row 1: class 2, but there are 2 classes");
    }
}
