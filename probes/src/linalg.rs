//! The dense linear algebra of the estimators: [`faer`], without threads, behind `ndarray` types.

use faer::linalg::matmul::{matmul, triangular};
use faer::prelude::Solve;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par, Side};
use ndarray::{Array1, Array2};

use crate::Error;

/// Rows that are worked on at once: with a width near 768 they stay in cache between the products that read them.
///
/// Sums are taken block by block in this order, so they depend on neither batches nor threads.
pub(crate) const BLOCK: usize = 256;

/// `out += a b`, or `out = a b` when `replace`.
pub(crate) fn product<T: ComplexField>(
    mut out: MatMut<'_, T>,
    replace: bool,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
) {
    let accum = if replace { Accum::Replace } else { Accum::Add };
    if a.ncols() == 0 && replace {
        out.fill(T::zero_impl());
        return;
    }
    matmul(out, accum, a, b, T::one_impl(), Par::Seq);
}

/// The lower half of `out += scale aᵀ a`.
pub(crate) fn add_gram(out: MatMut<'_, f64>, scale: f64, a: MatRef<'_, f64>) {
    use triangular::BlockStructure::{Rectangular, TriangularLower};
    triangular::matmul(
        out,
        TriangularLower,
        Accum::Add,
        a.transpose(),
        Rectangular,
        a,
        Rectangular,
        scale,
        Par::Seq,
    );
}

/// Copies the lower half of a square matrix over its upper half.
pub(crate) fn mirror(a: &mut Array2<f64>) {
    for i in 0..a.nrows() {
        for j in 0..i {
            a[[j, i]] = a[[i, j]];
        }
    }
}

/// A matrix of rows that lie one after the other.
pub(crate) fn rows<T>(slice: &[T], n: usize, d: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(slice, n, d)
}

/// As [`rows`], to write to.
pub(crate) fn rows_mut<T>(slice: &mut [T], n: usize, d: usize) -> MatMut<'_, T> {
    MatMut::from_row_major_slice_mut(slice, n, d)
}

/// An array of this crate's own making.
pub(crate) fn of<T>(a: &Array2<T>) -> MatRef<'_, T> {
    rows(a.as_slice().expect("an owned array in row order"), a.nrows(), a.ncols())
}

/// As [`of`], to write to.
pub(crate) fn of_mut<T>(a: &mut Array2<T>) -> MatMut<'_, T> {
    let (n, d) = a.dim();
    rows_mut(a.as_slice_mut().expect("an owned array in row order"), n, d)
}

/// `a b`.
pub(crate) fn times(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Array2<f64> {
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    product(of_mut(&mut out), true, a, b);
    out
}

/// Eigenvalues, ascending, and eigenvectors as rows, of a symmetric matrix of which the lower half is read.
///
/// # Errors
/// When a value is not finite, or the iteration does not end.
pub(crate) fn eigh(a: &Array2<f64>) -> Result<(Array1<f64>, Array2<f64>), Error> {
    let failed = |_| Error::Singular { what: "eigenvalues" };
    let found = of(a).self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let (u, s) = (found.U(), found.S());
    let d = a.nrows();
    Ok((Array1::from_shape_fn(d, |i| s[i]), Array2::from_shape_fn((d, d), |(i, j)| u[(j, i)])))
}

/// `x` of `a x = b` for a symmetric positive definite `a`, of which the lower half is read.
///
/// # Errors
/// When `a` is not positive definite.
pub(crate) fn solve(a: &Array2<f64>, b: &Array2<f64>) -> Result<Array2<f64>, Error> {
    let factor = of(a).llt(Side::Lower).map_err(|_| Error::Singular { what: "covariance" })?;
    let mut x = b.clone();
    factor.solve_in_place(of_mut(&mut x));
    Ok(x)
}

/// As [`solve`] where every squared pivot is at least `least`; else nothing.
pub(crate) fn solve_safely(a: &Array2<f64>, b: &Array2<f64>, least: f64) -> Option<Array2<f64>> {
    let factor = of(a).llt(Side::Lower).ok()?;
    let l = factor.L();
    // Not NaN either.
    if !(0..a.nrows()).all(|i| l[(i, i)] * l[(i, i)] >= least) {
        return None;
    }
    let mut x = b.as_standard_layout().into_owned();
    factor.solve_in_place(of_mut(&mut x));
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn by_hand() {
        // [[2, 1], [1, 2]]: 1 with (1, -1)/√2, 3 with (1, 1)/√2
        let a = array![[2., 9.], [1., 2.]];
        let (values, vectors) = eigh(&a).unwrap();
        assert!((values - array![1., 3.]).mapv(f64::abs).sum() < 1e-14);
        assert!((vectors[[1, 0]] - vectors[[1, 1]]).abs() < 1e-14);
        // 2x + y = 4, x + 2y = 5: x = 1, y = 2
        let x = solve(&a, &array![[4.], [5.]]).unwrap();
        assert!((x - array![[1.], [2.]]).mapv(f64::abs).sum() < 1e-14);
        assert!(matches!(
            solve(&array![[1., 0.], [2., 1.]], &array![[1.], [1.]]),
            Err(Error::Singular { .. })
        ));
        let mut gram = array![[1., 0.], [0., 0.]];
        add_gram(of_mut(&mut gram), 1.0, of(&array![[1., 2.], [3., 4.]]));
        mirror(&mut gram);
        assert_eq!(gram, array![[11., 14.], [14., 20.]]);
    }
}
