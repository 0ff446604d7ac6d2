//! The constant predictor: what a lens that reads nothing could do.

use layerscope_lenses::{Ask, Error, Readout};
use tch::Tensor;

/// The model's mean distribution: the best constant predictor.
#[derive(Debug)]
pub struct Mean {
    sums: Vec<f64>,
    n: f64,
}

impl Mean {
    /// Nothing seen yet.
    pub fn new(vocab: usize) -> Self {
        Self { sums: vec![0.0; vocab], n: 0.0 }
    }

    /// Adds the predictions of normalised states `n [rows, d_model]`.
    ///
    /// # Errors
    /// When a prediction is not finite.
    pub fn add(&mut self, readout: &Readout, n: &Tensor) -> Result<(), Error> {
        let rows = n.size()[0] as usize;
        let read = readout.sweep(n, Ask { marginal: Some(&vec![1.0; rows]), ..Ask::default() })?;
        self.sums.iter_mut().zip(read.marginal.iter().flatten()).for_each(|(sum, p)| *sum += p);
        self.n += rows as f64;
        Ok(())
    }

    /// `Σ_t KL(p_t ‖ mean)` over rows whose distributions sum to `marginal` and whose entropies sum to `entropy`.
    pub fn kl(&self, marginal: &[f64], entropy: f64) -> f64 {
        let floor = f64::MIN_POSITIVE;
        marginal.iter().zip(&self.sums).map(|(p, q)| -p * (q / self.n).max(floor).ln()).sum::<f64>() - entropy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_predictor_by_hand() {
        // mean (1/2, 1/2); two predictions (1, 0) and (0, 1): KL = ln 2 each.
        let mean = Mean { sums: vec![3.0, 3.0], n: 6.0 };
        assert!((mean.kl(&[1.0, 1.0], 0.0) - 2.0 * 2f64.ln()).abs() < 1e-12);
    }
}
