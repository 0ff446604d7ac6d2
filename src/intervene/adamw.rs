//! The optimiser of what is learnt through the frozen network: soft prompts, steering vectors.

use tch::{Kind, TchError, Tensor};

/// `AdamW` (Loshchilov & Hutter 2019) of one tensor, with torch's defaults β = (0.9, 0.999), ε = 1e-8.
pub(crate) struct AdamW {
    rate: f64,
    decay: f64,
    step: i32,
    mean: Tensor,
    square: Tensor,
}

impl AdamW {
    /// For tensors like `like`; `decay` is decoupled.
    pub(crate) fn new(rate: f64, decay: f64, like: &Tensor) -> Self {
        let zeros = || Tensor::zeros(like.size(), (Kind::Float, like.device())).to_kind(like.kind());
        Self { rate, decay, step: 0, mean: zeros(), square: zeros() }
    }

    /// What `x` becomes after a step along its gradient.
    pub(crate) fn step(&mut self, x: &Tensor, gradient: &Tensor) -> Result<Tensor, TchError> {
        let (b1, b2) = (0.9, 0.999);
        self.step += 1;
        self.mean = &self.mean * b1 + gradient * (1.0 - b1);
        self.square = &self.square * b2 + gradient.f_square()? * (1.0 - b2);
        let mean = &self.mean / (1.0 - b1.powi(self.step));
        let root = (&self.square / (1.0 - b2.powi(self.step))).f_sqrt()? + 1e-8;
        Ok(x * (1.0 - self.rate * self.decay) - mean.f_div(&root)? * self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_by_hand() {
        // Both bias corrections cancel: the step is the rate times the sign; decay first takes 0.1·0.5 of x.
        let x = Tensor::from_slice(&[2.0f64, -4.0]);
        let y = AdamW::new(0.1, 0.5, &x).step(&x, &Tensor::from_slice(&[3.0f64, -0.25])).unwrap();
        let y = Vec::<f64>::try_from(y).unwrap();
        assert!(
            (y[0] - (2.0 * 0.95 - 0.1)).abs() < 1e-6 && (y[1] - (-4.0 * 0.95 + 0.1)).abs() < 1e-6,
            "{y:?}"
        );
    }
}
