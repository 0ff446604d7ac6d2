//! Sums of distributions over rows, from tiles that were kept until the rows' own sums were known.

use tch::Tensor;

use super::{corrected::Change, kernel, row::Row};
use crate::{Error, raw::with_f32};

/// A tile of `exp(z - reference)` and its rows' references.
pub(super) struct Kept {
    pub(super) start: usize,
    pub(super) terms: Tensor,
    pub(super) references: Vec<f32>,
}

/// `Σ weight · softmax` over the rows of a block, now that their sums are known.
pub(super) fn marginal(
    vocab: usize,
    weights: &[f32],
    rows: &[Row],
    kept: &[Kept],
    changes: &[Change],
) -> Result<Vec<f64>, Error> {
    let mut sums = vec![0f32; vocab];
    for tile in kept {
        let width = tile.terms.size()[1] as usize;
        let sums = &mut sums[tile.start..tile.start + width];
        with_f32(&mut tile.terms.shallow_clone(), |terms| {
            for (i, row) in terms.chunks_exact(width).enumerate().filter(|(i, _)| weights[*i] != 0.0) {
                let factor = f64::from(weights[i]) * (f64::from(tile.references[i]) - rows[i].lse()).exp();
                kernel::add_scaled(sums, row, factor as f32);
            }
        })?;
    }
    let mut sums: Vec<f64> = sums.into_iter().map(f64::from).collect();
    correct(&mut sums, weights, rows, changes);
    Ok(sums)
}

/// Adds what a correction changed in rows that have a weight.
pub(super) fn correct(sums: &mut [f64], weights: &[f32], rows: &[Row], changes: &[Change]) {
    for change in changes.iter().filter(|change| weights[change.row] != 0.0) {
        let row = &rows[change.row];
        let factor = (f64::from(row.reference) - row.lse()).exp();
        sums[change.id] += f64::from(weights[change.row]) * change.term * factor;
    }
}
