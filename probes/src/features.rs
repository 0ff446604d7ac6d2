//! Design matrices of logistic regression: dense rows and sparse counts.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2};

use crate::Error;
use crate::labels::finite;
use crate::linalg::{BLOCK, product, rows, rows_mut};

/// A matrix `X` `(n, d)` read block by block.
///
/// Blocks are of 256 rows or fewer. Values are in f64: with large weights that cancel, f32 would leave an objective
/// with six digits. Their residuals are small numbers, which f32 holds well enough.
pub trait Features: Sync {
    /// `n`
    fn rows(&self) -> usize;

    /// `d`
    fn cols(&self) -> usize;

    /// `out = X[block] w`; `w` is `(d, k)` and `out` `(m, k)`, row by row.
    fn times(&self, block: Range<usize>, w: &[f64], k: usize, out: &mut [f64]);

    /// `sum += X[block]ᵀ r`; `r` is `(m, k)` and `sum` `(d, k)`, row by row.
    fn add_transposed(&self, block: Range<usize>, r: &[f32], k: usize, sum: &mut [f64]);

    /// `Σ x²` of each column `(d,)`.
    fn squares(&self) -> Array1<f64>;
}

/// Rows that are made f64 at once, so that they are still in the innermost cache for their product.
const WIDE: usize = 32;

/// Dense rows that lie one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a> {
    x: &'a [f32],
    n: usize,
    d: usize,
}

impl<'a> Dense<'a> {
    /// The rows `x` `(n, d)`.
    ///
    /// # Errors
    /// When a value is not finite, or the rows do not lie one after the other.
    pub fn new(x: ArrayView2<'a, f32>) -> Result<Self, Error> {
        finite(x)?;
        let (n, d) = x.dim();
        let x = x.to_slice().ok_or(Error::Layout)?;
        Ok(Self { x, n, d })
    }

    fn block(&self, block: &Range<usize>) -> faer::MatRef<'a, f32> {
        rows(&self.x[block.start * self.d..block.end * self.d], block.len(), self.d)
    }
}

impl Features for Dense<'_> {
    fn rows(&self) -> usize {
        self.n
    }

    fn cols(&self) -> usize {
        self.d
    }

    fn times(&self, block: Range<usize>, w: &[f64], k: usize, out: &mut [f64]) {
        if self.d == 0 || k == 0 {
            return out.fill(0.0); // nothing to sum, and no width to cut blocks by
        }
        let mut wide = Vec::with_capacity(WIDE * self.d);
        let x = &self.x[block.start * self.d..block.end * self.d];
        for (x, out) in x.chunks(WIDE * self.d).zip(out.chunks_mut(WIDE * k)) {
            wide.clear();
            wide.extend(x.iter().map(|v| f64::from(*v)));
            let m = out.len() / k;
            product(rows_mut(out, m, k), true, rows(&wide, m, self.d), rows(w, self.d, k));
        }
    }

    fn add_transposed(&self, block: Range<usize>, r: &[f32], k: usize, sum: &mut [f64]) {
        let mut part = vec![0f32; self.d * k];
        product(
            rows_mut(&mut part, self.d, k),
            true,
            self.block(&block).transpose(),
            rows(r, block.len(), k),
        );
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += f64::from(p));
    }

    fn squares(&self) -> Array1<f64> {
        let mut squares = Array1::<f64>::zeros(self.d);
        for row in self.x.chunks_exact(self.d.max(1)) {
            squares.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v).powi(2));
        }
        squares
    }
}

/// A sparse matrix by rows (compressed sparse row), for bags of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    cols: usize,
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Csr {
    /// Row `i` has `values[starts[i]..starts[i + 1]]` in the same part of `columns`; a column named twice counts twice.
    ///
    /// # Errors
    /// When these do not fit each other, or a value is not finite.
    pub fn new(cols: usize, starts: Vec<usize>, columns: Vec<u32>, values: Vec<f32>) -> Result<Self, Error> {
        let wrong = |what| Err(Error::Sparse { what });
        if columns.len() != values.len() {
            return wrong("not as many columns as values");
        }
        if starts.first() != Some(&0) || starts.last() != Some(&values.len()) || !starts.is_sorted() {
            return wrong("row starts must rise from 0 to the number of values");
        }
        if columns.iter().any(|c| *c as usize >= cols) {
            return wrong("a column beyond the width");
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { row: starts.partition_point(|s| *s <= at) - 1 });
        }
        Ok(Self { cols, starts, columns, values })
    }

    /// How often each of `cols` tokens occurs in each row.
    ///
    /// # Errors
    /// When a token is beyond `cols`.
    pub fn counts<'a>(cols: usize, rows: impl IntoIterator<Item = &'a [u32]>) -> Result<Self, Error> {
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in rows {
            let mut sorted = row.to_vec();
            sorted.sort_unstable();
            for same in sorted.chunk_by(|a, b| a == b) {
                columns.push(same[0]);
                values.push(same.len() as f32);
            }
            starts.push(columns.len());
        }
        Self::new(cols, starts, columns, values)
    }

    /// Columns and values of row `i`.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        let part = self.starts[i]..self.starts[i + 1];
        self.columns[part.clone()].iter().map(|c| *c as usize).zip(self.values[part].iter().copied())
    }
}

impl Features for Csr {
    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn times(&self, block: Range<usize>, w: &[f64], k: usize, out: &mut [f64]) {
        if k == 0 {
            return;
        }
        for (i, out) in block.zip(out.chunks_exact_mut(k)) {
            out.fill(0.0);
            for (c, v) in self.row(i) {
                out.iter_mut().zip(&w[c * k..]).for_each(|(o, w)| *o += f64::from(v) * w);
            }
        }
    }

    fn add_transposed(&self, block: Range<usize>, r: &[f32], k: usize, sum: &mut [f64]) {
        if k == 0 {
            return;
        }
        for (i, r) in block.zip(r.chunks_exact(k)) {
            for (c, v) in self.row(i) {
                sum[c * k..].iter_mut().zip(r).for_each(|(s, r)| *s += f64::from(v * r));
            }
        }
    }

    fn squares(&self) -> Array1<f64> {
        let mut squares = Array1::zeros(self.cols);
        for (c, v) in self.columns.iter().zip(&self.values) {
            squares[*c as usize] += f64::from(*v).powi(2);
        }
        squares
    }
}

/// `X wᵀ + b` `(n, k)` for `w` `(k, d)`.
pub(crate) fn affine<F: Features>(x: &F, w: &Array2<f64>, b: &Array1<f64>) -> Result<Array2<f64>, Error> {
    let (k, d) = w.dim();
    crate::labels::same_width(d, x.cols())?;
    let w: Vec<f64> = w.t().iter().copied().collect();
    let mut out = vec![0.0; x.rows() * k];
    for (i, part) in out.chunks_mut((BLOCK * k).max(1)).enumerate() {
        x.times(i * BLOCK..i * BLOCK + part.len() / k, &w, k, part);
    }
    let out = Array2::from_shape_fn((x.rows(), k), |(i, j)| out[i * k + j]);
    Ok(out + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;
    use ndarray::array;

    #[test]
    fn sparse_and_dense_agree() {
        // Two columns of three used; row 1 is empty, token 2 comes twice in row 2.
        let sparse = Csr::counts(3, [&[0u32][..], &[], &[2, 0, 2]]).unwrap();
        let x = array![[1f32, 0., 0.], [0., 0., 0.], [1., 0., 2.]];
        let dense = Dense::new(x.view()).unwrap();
        let (w, residuals) = (normal(3, 2, 1).mapv(f64::from), normal(2, 2, 2));
        let (mut a, mut b) = ([0f64; 6], [0f64; 6]);
        sparse.times(0..3, w.as_slice().unwrap(), 2, &mut a);
        dense.times(0..3, w.as_slice().unwrap(), 2, &mut b);
        assert_eq!(a, b);
        let (mut a, mut b) = ([1f64; 6], [1f64; 6]);
        sparse.add_transposed(1..3, residuals.as_slice().unwrap(), 2, &mut a);
        dense.add_transposed(1..3, residuals.as_slice().unwrap(), 2, &mut b);
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!((sparse.squares(), dense.squares()), (array![2., 0., 4.], array![2., 0., 4.]));
    }

    #[test]
    fn without_columns_every_product_is_zero() {
        let (empty, none) = (Array2::<f32>::zeros((3, 0)), Csr::counts(0, [&[][..], &[], &[]]).unwrap());
        let dense = Dense::new(empty.view()).unwrap();
        for k in [0, 2] {
            let (mut a, mut b) = (vec![7f64; 3 * k], vec![7f64; 3 * k]);
            dense.times(0..3, &[], k, &mut a);
            none.times(0..3, &[], k, &mut b);
            assert_eq!((a, b), (vec![0.0; 3 * k], vec![0.0; 3 * k]));
            dense.add_transposed(0..3, &vec![1.0; 3 * k], k, &mut []);
            none.add_transposed(0..3, &vec![1.0; 3 * k], k, &mut []);
        }
        assert_eq!(
            affine(&dense, &Array2::zeros((2, 0)), &array![1.0, 2.0]).unwrap().row(2),
            array![1.0, 2.0]
        );
    }

    #[test]
    fn blocks_join() {
        let x = normal(600, 7, 2);
        let (w, b) = (normal(3, 7, 3).mapv(f64::from), array![1., 2., 3.]);
        let found = affine(&Dense::new(x.view()).unwrap(), &w, &b).unwrap();
        assert!((found - (x.mapv(f64::from).dot(&w.t()) + &b)).mapv(f64::abs).sum() < 1e-9);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |starts: &[usize], columns: &[u32], values: &[f32]| {
            Csr::new(3, starts.to_vec(), columns.to_vec(), values.to_vec()).map_err(|e| e.to_string())
        };
        assert_eq!(new(&[0, 1, 1], &[2], &[1.]).unwrap().row(0).collect::<Vec<_>>(), [(2, 1.0)]);
        for starts in [&[0usize, 2][..], &[1, 1], &[0, 2, 1], &[]] {
            assert!(new(starts, &[2], &[1.]).unwrap_err().contains("row starts"));
        }
        assert!(new(&[0, 1], &[3], &[1.]).unwrap_err().contains("beyond the width"));
        assert!(new(&[0, 1], &[], &[1.]).unwrap_err().contains("as many"));
        assert_eq!(new(&[0, 0, 1, 1], &[0], &[f32::NAN]).unwrap_err(), "row 1: a value is not finite");
        assert!(matches!(Dense::new(array![[1f32, 2.], [3., 4.]].t()), Err(Error::Layout)));
    }
}
