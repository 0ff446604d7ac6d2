use tch::{Kind, Tensor};

use crate::{Error, JacobianSums};

/// A mean Jacobian, and how well it is known.
#[derive(Debug)]
pub struct Jacobian {
    /// `[d_model, d_model]`, f32: rows are dimensions of the later layer.
    pub mean: Tensor,
    /// Prompts that each row is a mean over, `[d_model]`, f32.
    pub prompts: Tensor,
    /// The squared standard error of each row, summed over its columns, `[d_model]`, f32; none where some row comes of
    /// a single prompt, or of a file that does not say.
    pub squared_error: Option<Tensor>,
}

impl Jacobian {
    /// `‖J‖`, the root of the sum of squares.
    pub fn norm(&self) -> f64 {
        self.mean.to_kind(Kind::Double).norm().double_value(&[])
    }

    /// The standard error of `J` in that norm.
    pub fn error(&self) -> Option<f64> {
        self.squared_error.as_ref().map(|rows| rows.sum(Kind::Double).double_value(&[]).sqrt())
    }

    /// The cosine that a fit on as many other prompts of this kind would have with this one: of two estimates with
    /// error, `‖J‖² / (‖J‖² + error²)`, where the measured norm holds both.
    pub fn refit_cosine(&self) -> Option<f64> {
        let error = self.error()?;
        let all = self.norm().powi(2);
        Some(if all > 0.0 { (1.0 - error.powi(2) / all).max(0.0) } else { 0.0 })
    }

    /// The sums that it is a mean of, so that those of other prompts can be added.
    ///
    /// # Errors
    /// When shapes do not fit, or it does not say how well it is known.
    pub fn sums(&self) -> Result<JacobianSums, Error> {
        let error = self.squared_error.as_ref();
        let error = error.ok_or_else(|| Error::NotSaved { name: "squared_error".into() })?;
        JacobianSums::of_means(&self.mean, &self.prompts, error)
    }
}
