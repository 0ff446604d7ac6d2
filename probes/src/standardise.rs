//! Standardisation by the rows a probe is fitted on.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use crate::labels::{finite, same_width};
use crate::{Error, Moments};

/// A dimension whose standard deviation is below this part of its mean is constant: f32 cannot say more.
const CONSTANT: f64 = 1e-7;

/// z-scores: `(x - mean) / scale` by dimension, with the statistics of the training rows.
///
/// A constant dimension is read as 0, also in other data: nothing is known about its spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardise {
    /// `(d,)`
    pub mean: Array1<f64>,
    /// Standard deviation (of the rows as the whole population) `(d,)`; 0 for a constant dimension.
    pub scale: Array1<f64>,
}

impl Standardise {
    /// By the rows `x` `(n, d)`.
    ///
    /// # Errors
    /// When there is no row, or a value is not finite.
    pub fn of_rows(x: ArrayView2<'_, f32>) -> Result<Self, Error> {
        finite(x)?;
        let n = x.nrows();
        if n == 0 {
            return Err(Error::Few { expected: 1, got: 0 });
        }
        let mut mean = Array1::zeros(x.ncols());
        for row in x.outer_iter() {
            mean.zip_mut_with(&row, |m, v| *m += f64::from(*v));
        }
        mean /= n as f64;
        let mut square = Array1::<f64>::zeros(x.ncols());
        for row in x.outer_iter() {
            ndarray::Zip::from(&mut square)
                .and(&row)
                .and(&mean)
                .for_each(|s, v, m| *s += (f64::from(*v) - m).powi(2));
        }
        Ok(Self::new(mean, (square / n as f64).mapv(f64::sqrt)))
    }

    /// By the rows of `moments`.
    ///
    /// # Errors
    /// When it has no row.
    pub fn of_moments(moments: &Moments) -> Result<Self, Error> {
        let mean = moments.mean()?;
        let scale = moments.scatter().diag().mapv(|s| (s / moments.n() as f64).max(0.0).sqrt());
        Ok(Self::new(mean, scale))
    }

    /// The mean alone, without the scale; a constant dimension stays one, so that its rounding is no direction.
    #[must_use]
    pub fn centred(mut self) -> Self {
        self.scale.mapv_inplace(|s| if s == 0.0 { 0.0 } else { 1.0 });
        self
    }

    /// By the rows of `moments`: z-scores, or centred alone.
    pub(crate) fn of(moments: &Moments, z_scores: bool) -> Result<Self, Error> {
        let by = Self::of_moments(moments)?;
        Ok(if z_scores { by } else { by.centred() })
    }

    fn new(mean: Array1<f64>, mut scale: Array1<f64>) -> Self {
        scale.zip_mut_with(&mean, |s, m| *s = if *s <= CONSTANT * m.abs() { 0.0 } else { *s });
        Self { mean, scale }
    }

    /// Whether no dimension varies: then there is nothing to read in these rows.
    pub fn is_constant(&self) -> bool {
        self.scale.iter().all(|s| *s == 0.0)
    }

    /// The constant dimensions.
    pub fn constant(&self) -> Vec<usize> {
        (0..self.scale.len()).filter(|i| self.scale[*i] == 0.0).collect()
    }

    /// `1 / scale`, and 0 for a constant dimension `(d,)`.
    pub fn inverse(&self) -> Array1<f64> {
        self.scale.mapv(|s| if s == 0.0 { 0.0 } else { s.recip() })
    }

    /// The z-scores of `x` `(n, d)`.
    ///
    /// # Errors
    /// When `x` has another width.
    pub fn apply(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
        same_width(self.mean.len(), x.ncols())?;
        let inverse = self.inverse();
        let mut z = Array2::zeros(x.dim());
        for (row, mut out) in x.outer_iter().zip(z.outer_iter_mut()) {
            self.row(row, &inverse, |i, v| out[i] = v as f32);
        }
        Ok(z)
    }

    /// A scatter `(d, d)` of rows as that of their z-scores.
    pub(crate) fn scaled(&self, mut scatter: Array2<f64>) -> Array2<f64> {
        let inverse = self.inverse();
        for (mut row, s) in scatter.outer_iter_mut().zip(&inverse) {
            row.zip_mut_with(&inverse, |v, t| *v *= s * t);
        }
        scatter
    }

    /// The z-scores of one row, value by value.
    pub(crate) fn row(&self, x: ArrayView1<'_, f32>, inverse: &Array1<f64>, mut out: impl FnMut(usize, f64)) {
        for (i, ((v, m), s)) in x.iter().zip(&self.mean).zip(inverse).enumerate() {
            out(i, (f64::from(*v) - m) * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn by_hand() {
        // Column 0: mean 2, deviations -1, 1: scale 1. Column 1 is constant. Column 2: mean 0, scale 4.
        let x = array![[1f32, 7., -4.], [3., 7., 4.]];
        let by = Standardise::of_rows(x.view()).unwrap();
        assert_eq!((by.mean.clone(), by.scale.clone()), (array![2., 7., 0.], array![1., 0., 4.]));
        assert_eq!((by.constant(), by.is_constant()), (vec![1], false));
        assert_eq!(by.clone().centred().scale, array![1., 0., 1.]);
        assert_eq!(by.apply(x.view()).unwrap(), array![[-1f32, 0., -1.], [1., 0., 1.]]);
        // What was constant stays 0, whatever it is elsewhere.
        assert_eq!(by.apply(array![[2f32, 8., 4.]].view()).unwrap(), array![[0f32, 0., 1.]]);
        let narrow = by.apply(array![[2f32, 8.]].view()).unwrap_err();
        assert_eq!(narrow.to_string(), "rows of width 2, expected 3");
    }

    #[test]
    fn a_large_constant_is_constant_and_moments_agree() {
        let x = Array2::from_shape_fn((100, 2), |(i, j)| if j == 0 { 0.1 } else { 1e4 + i as f32 });
        let mut moments = Moments::new(2);
        moments.add(x.view(), None).unwrap();
        let (rows, sums) =
            (Standardise::of_rows(x.view()).unwrap(), Standardise::of_moments(&moments).unwrap());
        assert_eq!((rows.constant(), sums.constant()), (vec![0], vec![0]));
        assert!((rows.scale[1] / sums.scale[1] - 1.0).abs() < 1e-9);
        let none = Standardise::of_rows(x.slice(ndarray::s![..0, ..])).unwrap_err();
        assert_eq!(none.to_string(), "0 rows, expected at least 1");
    }
}
