//! The eigendecomposition that the linear estimators share: made once for some rows, used for every label and λ.

use ndarray::{Array1, Array2, ArrayView2};

use crate::labels::finite;
use crate::linalg::{BLOCK, add_gram, eigh, mirror, of, of_mut, product, rows_mut, times};
use crate::{Error, Moments, Standardise};

/// Eigenvalues and eigenvectors of the scatter `Σ z zᵀ` of centred or standardised rows `z`.
///
/// Directions in which the rows do not vary, up to rounding, are left out.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// From rows to `z`.
    pub standardise: Standardise,
    /// Number of rows.
    pub n: u64,
    /// `(r,)`, ascending.
    pub values: Array1<f64>,
    /// One a row, orthonormal `(r, d)`.
    pub vectors: Array2<f64>,
}

impl Spectrum {
    /// Of the rows that `moments` has summed, z-scored or (without `standardise`) centred.
    ///
    /// # Errors
    /// When there is no row, or the decomposition fails.
    pub fn of_moments(moments: &Moments, standardise: bool) -> Result<Self, Error> {
        let by = Standardise::of(moments, standardise)?;
        let (values, vectors) = eigh(&by.scaled(moments.scatter()))?;
        let keep = kept(&values, moments.n().max(moments.d() as u64));
        let vectors = vectors.slice(ndarray::s![keep.., ..]).to_owned();
        Ok(Self {
            standardise: by,
            n: moments.n(),
            values: values.slice(ndarray::s![keep..]).to_owned(),
            vectors,
        })
    }

    /// Of the rows `x` `(n, d)`: by `(d, d)` moments, or by the `(n, n)` products of rows when those are fewer.
    ///
    /// # Errors
    /// As [`Self::of_moments`], and when a value is not finite.
    pub fn of_rows(x: ArrayView2<'_, f32>, standardise: bool) -> Result<Self, Error> {
        if x.nrows() >= x.ncols() {
            let mut moments = Moments::new(x.ncols());
            moments.add(x, None)?;
            return Self::of_moments(&moments, standardise);
        }
        let mut by = Standardise::of_rows(x)?;
        if !standardise {
            by = by.centred();
        }
        // Columns of a transposed copy are rows, so that the products of rows are a Gram matrix.
        let (n, inverse) = (x.nrows(), by.inverse());
        let mut zt = Array2::zeros((x.ncols(), n));
        for (i, row) in x.outer_iter().enumerate() {
            by.row(row, &inverse, |j, v| zt[[j, i]] = v);
        }
        let mut products = Array2::zeros((n, n));
        add_gram(of_mut(&mut products), 1.0, of(&zt));
        mirror(&mut products);
        let (values, u) = eigh(&products)?;
        let keep = kept(&values, x.ncols() as u64);
        let (values, u) =
            (values.slice(ndarray::s![keep..]).to_owned(), u.slice(ndarray::s![keep.., ..]).to_owned());
        let mut vectors = times(of(&u), of(&zt).transpose());
        for (mut v, value) in vectors.outer_iter_mut().zip(&values) {
            v /= value.sqrt();
        }
        Ok(Self { standardise: by, n: n as u64, values, vectors })
    }

    /// Number of directions.
    pub fn rank(&self) -> usize {
        self.values.len()
    }

    /// Weights on `z` by direction `(r, k)` as weights on raw rows `(k, d)`.
    pub(crate) fn raw(&self, by_direction: &Array2<f64>) -> Array2<f64> {
        times(of(by_direction).transpose(), of(&self.vectors)) * &self.standardise.inverse()
    }
}

/// Where the eigenvalues above rounding begin.
fn kept(values: &Array1<f64>, size: u64) -> usize {
    let floor = values.last().map_or(0.0, |largest| largest * size as f64 * f64::EPSILON);
    values.iter().position(|v| *v > floor.max(0.0)).unwrap_or(values.len())
}

/// The power of two at or below a positive number; 1 where there is none.
fn power_of_two(x: f64) -> f64 {
    let power = 2f64.powi(x.log2().floor() as i32);
    if power.is_normal() { power } else { 1.0 }
}

/// Rows in the coordinates of their [`Spectrum`], each of variance near 1: what logistic regression is fitted on.
///
/// It costs a copy of the rows, and serves every label, every class weight and every λ.
#[derive(Debug)]
pub struct Whitened {
    pub(crate) spectrum: Spectrum,
    /// `(n, r)`
    pub(crate) z: Array2<f32>,
    /// `z` is this times the projection on each eigenvector `(r,)`.
    pub(crate) factor: Array1<f64>,
}

/// Eigenvalues below this part of the largest are stretched no further: their directions are mostly f32 rounding.
const STRETCH: f64 = 1e-7;

impl Whitened {
    /// The rows `x` `(n, d)`, z-scored first when `standardise`.
    ///
    /// # Errors
    /// When there is no row, a value is not finite, or the decomposition fails.
    pub fn new(x: ArrayView2<'_, f32>, standardise: bool) -> Result<Self, Error> {
        finite(x)?;
        let spectrum = Spectrum::of_rows(x, standardise)?;
        let (r, d) = spectrum.vectors.dim();
        let largest = spectrum.values.last().copied().unwrap_or(1.0);
        let factor = spectrum.values.mapv(|v| (x.nrows() as f64 / v.max(STRETCH * largest)).sqrt());
        // By a power of two, which changes no digit: rows of 1e30 or of 1e-40 would leave the range of f32 on one side.
        let unit = power_of_two((largest / x.nrows().max(1) as f64).sqrt());
        let map =
            Array2::from_shape_fn((r, d), |(i, j)| (spectrum.vectors[[i, j]] * factor[i] * unit) as f32);
        let (mut z, inverse) = (Array2::zeros((x.nrows(), r)), spectrum.standardise.inverse());
        let mut block = Vec::with_capacity(BLOCK * d);
        for (from, mut out) in
            x.axis_chunks_iter(ndarray::Axis(0), BLOCK).zip(z.axis_chunks_iter_mut(ndarray::Axis(0), BLOCK))
        {
            block.clear();
            from.outer_iter().for_each(|row| {
                spectrum.standardise.row(row, &inverse, |_, v| block.push((v / unit) as f32));
            });
            let m = out.nrows();
            let out = rows_mut(out.as_slice_mut().ok_or(Error::Layout)?, m, r);
            product(out, true, crate::linalg::rows(&block, m, d), of(&map).transpose());
        }
        Ok(Self { spectrum, z, factor })
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.z.nrows()
    }

    /// The decomposition, for estimators in closed form on the same rows.
    pub fn spectrum(&self) -> &Spectrum {
        &self.spectrum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;

    #[test]
    fn few_rows_and_many_have_the_same_spectrum() {
        let x = normal(30, 40, 3);
        let mut moments = Moments::new(40);
        moments.add(x.view(), None).unwrap();
        for standardise in [false, true] {
            let rows = Spectrum::of_rows(x.view(), standardise).unwrap();
            let sums = Spectrum::of_moments(&moments, standardise).unwrap();
            assert_eq!((rows.rank(), sums.rank()), (29, 29)); // centred
            assert!((&rows.values / &sums.values - 1.0).mapv(f64::abs).sum() < 1e-9);
            let same = rows.vectors.dot(&sums.vectors.t()).mapv(f64::abs);
            assert!((same - Array2::<f64>::eye(29)).mapv(f64::abs).sum() < 1e-6);
        }
    }

    #[test]
    fn whitened_rows_are_white() {
        let scales = Array1::from_iter((0..6).map(|i| 10f32.powi(i / 2)));
        let x = normal(500, 6, 4) * &scales + 5.0;
        let white = Whitened::new(x.view(), false).unwrap();
        let z = white.z.mapv(f64::from);
        assert!((z.t().dot(&z) / 500.0 - Array2::<f64>::eye(6)).mapv(f64::abs).sum() < 1e-2);
        assert!(z.sum_axis(ndarray::Axis(0)).mapv(f64::abs).sum() < 1e-2);
    }
}
