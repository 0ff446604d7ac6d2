use ndarray::{Array2, ArrayView2, Axis, s};

use super::{Lanes, Metric, add, each};
use crate::Error;

/// 1 - Σ (y - ŷ)² / Σ (y - ȳ)², averaged over outputs (scikit-learn's `uniform_average`).
///
/// The mean ȳ is that of the weighted rows. An output that does not vary has no R²: NaN, and so has the average.
#[derive(Debug, Clone)]
pub struct R2 {
    /// Squared errors, `(n, k)`.
    errors: Array2<f64>,
    /// Less the mean of all rows, so that the sums below do not cancel, `(n, k)`.
    centred: Array2<f64>,
}

impl R2 {
    /// From `predicted` and true numbers `y`, both `(n, k)`.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::Width`], and [`Error::NotFinite`] for a number that is NaN or
    /// infinite.
    pub fn new(predicted: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<Self, Error> {
        if predicted.nrows() != y.nrows() {
            return Err(Error::Length { rows: predicted.nrows(), labels: y.nrows() });
        }
        if predicted.ncols() != y.ncols() {
            return Err(Error::Width { expected: y.ncols(), got: predicted.ncols() });
        }
        let Some(mean) = y.mean_axis(Axis(0)).filter(|mean| !mean.is_empty()) else {
            return Err(Error::Empty);
        };
        let errors = (&predicted - &y).mapv(|e| e * e);
        let centred = &y - &mean;
        let rows = errors.outer_iter().zip(centred.outer_iter());
        let finite = |(e, c): (ndarray::ArrayView1<'_, f64>, ndarray::ArrayView1<'_, f64>)| {
            e.iter().chain(&c).all(|x| x.is_finite())
        };
        match rows.map(finite).position(|finite| !finite) {
            // A number that is not finite spoils the mean of all rows: name its own row.
            Some(row) => {
                let bad = |row: ndarray::ArrayView1<'_, f64>| row.iter().any(|x| !x.is_finite());
                let rows = predicted.outer_iter().zip(y.outer_iter());
                let first = rows.map(|(a, b)| bad(a) || bad(b)).position(|bad| bad);
                Err(Error::NotFinite { row: first.unwrap_or(row) })
            }
            None => Ok(Self { errors, centred }),
        }
    }

    /// R² of each output by itself, `(k,)`.
    pub fn outputs(&self) -> Vec<Self> {
        let one = |x: &Array2<f64>, output| x.slice(s![.., output..=output]).to_owned();
        let of = |output| Self { errors: one(&self.errors, output), centred: one(&self.centred, output) };
        (0..self.errors.ncols()).map(of).collect()
    }

    fn of_output(&self, output: usize, weights: &[Lanes]) -> Lanes {
        let [mut all, mut error, mut sum, mut square] = [Lanes::default(); 4];
        let rows = self.errors.column(output).into_iter().zip(self.centred.column(output));
        for ((&e, &y), weight) in rows.zip(weights) {
            add(&mut all, weight, 1.0);
            add(&mut error, weight, e);
            add(&mut sum, weight, y);
            add(&mut square, weight, y * y);
        }
        each(|lane| {
            let spread = square[lane] - sum[lane] * sum[lane] / all[lane];
            // What is left of a constant is rounding.
            if spread > 1e-12 * square[lane] { 1.0 - error[lane] / spread } else { f64::NAN }
        })
    }
}

impl Metric for R2 {
    fn rows(&self) -> usize {
        self.errors.nrows()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let k = self.errors.ncols();
        let outputs: Vec<Lanes> = (0..k).map(|output| self.of_output(output, weights)).collect();
        each(|lane| outputs.iter().map(|output| output[lane]).sum::<f64>() / k as f64)
    }
}
