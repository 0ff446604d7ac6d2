//! Sums of distributions over rows, from tiles that were kept until the rows' own sums were known.

use tch::Tensor;

use super::kernel;
use crate::{Error, raw::with_f32};

/// A tile of `exp(z - reference)` and its rows' references.
pub(super) struct Kept {
    pub(super) start: usize,
    pub(super) terms: Tensor,
    pub(super) references: Vec<f32>,
}

/// `Σ weight · softmax` over the rows of a block, now that their sums are known.
pub(super) fn marginal(vocab: usize, weights: &[f32], lse: &[f64], kept: &[Kept]) -> Result<Vec<f64>, Error> {
    let mut sums = vec![0f32; vocab];
    for tile in kept {
        let width = tile.terms.size()[1] as usize;
        let sums = &mut sums[tile.start..tile.start + width];
        with_f32(&mut tile.terms.shallow_clone(), |terms| {
            for (i, row) in terms.chunks_exact(width).enumerate().filter(|(i, _)| weights[*i] != 0.0) {
                let factor = f64::from(weights[i]) * (f64::from(tile.references[i]) - lse[i]).exp();
                kernel::add_scaled(sums, row, factor as f32);
            }
        })?;
    }
    Ok(sums.into_iter().map(f64::from).collect())
}
