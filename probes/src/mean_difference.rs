//! The difference of the means of two classes, also called the mass-mean probe.

use ndarray::Axis;

use crate::{Error, Fit, Labelled, Linear, Link, Moments, Standardise};

/// The direction `θ = μ₁ - μ₀`, with the score `θ · (x - (μ₀ + μ₁) / 2)` (Marks and Tegmark 2023).
///
/// Its form for rows that vary unequally, `Σ⁻¹ θ`, is [`crate::Lda`]. Where the means are the same, the score of every
/// row is the log-odds of the classes' shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeanDifference {
    /// Whether the means are compared in z-scores; the published probe does not.
    pub standardise: bool,
}

impl MeanDifference {
    /// From sums alone.
    ///
    /// # Errors
    /// When the labels are not two classes, or one has no row.
    pub fn fit_moments(&self, moments: &Moments) -> Result<Linear, Error> {
        let (counts, means) = moments.classes()?;
        if counts.len() != 2 {
            return Err(Error::Classes { expected: "2", got: counts.len() });
        }
        let mut theta = &means.row(1) - &means.row(0);
        // The difference of z-scores, as weights on raw rows.
        theta *= &Standardise::of(moments, self.standardise)?.inverse().mapv(|s| s * s);
        let bias = if theta.iter().all(|t| *t == 0.0) {
            (counts[1] as f64 / counts[0] as f64).ln()
        } else {
            -theta.dot(&(&means.row(0) + &means.row(1))) / 2.0
        };
        Linear::new(theta.insert_axis(Axis(0)), ndarray::array![bias], Link::Margin)
    }
}

impl Fit for MeanDifference {
    type Fitted = Linear;

    fn fit(&self, data: &Labelled<'_>) -> Result<Linear, Error> {
        data.classes()?;
        self.fit_moments(&Moments::of(data)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Labels, Probe};
    use ndarray::array;

    #[test]
    fn by_hand() {
        // means (1, 0) and (3, 4): θ = (2, 4), midpoint (2, 2), bias -(4 + 8)
        let x = array![[0f32, 0.], [2., 0.], [3., 4.]];
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 1], n_classes: 2 } };
        let probe = MeanDifference::default().fit(&data).unwrap();
        assert_eq!((probe.weights.clone(), probe.bias.clone()), (array![[2., 4.]], array![-12.]));
        assert_eq!(probe.scores(array![[2f32, 2.], [3., 4.]].view()).unwrap(), array![[0., 0.], [-5., 5.]]);
        // In z-scores: as if fitted on them, then folded.
        let by = Standardise::of_rows(x.view()).unwrap();
        let z = by.apply(x.view()).unwrap();
        let folded =
            MeanDifference::default().fit(&Labelled { x: z.view(), ..data }).unwrap().fold(&by).unwrap();
        let inside = MeanDifference { standardise: true }.fit(&data).unwrap();
        assert!((inside.weights - folded.weights).mapv(f64::abs).sum() < 1e-6);
        assert!((inside.bias - folded.bias).mapv(f64::abs).sum() < 1e-6);
        let same = array![[2f32, 1.], [2., 1.], [2., 1.]];
        let data = Labelled { x: same.view(), ..data };
        for standardise in [false, true] {
            let probe = MeanDifference { standardise }.fit(&data).unwrap();
            assert_eq!((probe.weights, probe.bias), (array![[0., 0.]], array![0.5f64.ln()]));
        }
        let three = Labels::Classes { y: &[0, 1, 2], n_classes: 3 };
        let said = MeanDifference::default().fit(&Labelled { x: x.view(), y: three }).unwrap_err();
        assert_eq!(said.to_string(), "3 classes, expected 2");
    }
}
