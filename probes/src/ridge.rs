//! Ridge regression in closed form.

use ndarray::{Array1, Array2, Axis};

use crate::labels::{not_negative, same_rows, same_width};
use crate::linalg::{BLOCK, of, of_mut, product, rows, times};
use crate::{Error, Fit, Labelled, Labels, Linear, Link, Moments, Spectrum, Standardise};

/// Minimises `Σᵢ |yᵢ - (xᵢ Wᵀ + b)|² + λ |W|²`, with a bias that is not penalised: scikit-learn's `Ridge(alpha=λ)`.
///
/// Numbers are regressed as they are, `k` at once. Classes are regressed as one-hot rows, whose predictions are the
/// scores. `λ = 0` is ordinary least squares, of the smallest norm where the rows leave a choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    /// λ, not below 0.
    pub l2: f64,
    /// Whether the rows are z-scored; the probe is of raw rows in either case.
    pub standardise: bool,
}

impl Default for Ridge {
    fn default() -> Self {
        Self { l2: 1.0, standardise: true }
    }
}

impl Fit for Ridge {
    type Fitted = Linear;

    fn fit(&self, data: &Labelled<'_>) -> Result<Linear, Error> {
        same_rows(data.x.nrows(), data.y.len())?;
        let spectrum = Spectrum::of_rows(data.x, self.standardise)?;
        Ok(Self::path(&spectrum, data, &[self.l2])?.remove(0))
    }
}

impl Ridge {
    /// A probe for each λ of `l2`, on the rows `spectrum` was made of.
    ///
    /// # Errors
    /// When the labels do not suit the rows, these are not those of `spectrum`, or a λ is below 0.
    pub fn path(spectrum: &Spectrum, data: &Labelled<'_>, l2: &[f64]) -> Result<Vec<Linear>, Error> {
        same_rows(spectrum.n as usize, data.x.nrows())?;
        same_width(spectrum.standardise.mean.len(), data.x.ncols())?;
        let y = numbers(data)?;
        let mean = y.sum_axis(Axis(0)) / data.x.nrows() as f64;
        solve(spectrum, &cross(&spectrum.standardise, data, &y), &mean, l2)
    }

    /// A probe for each λ of `l2`, from sums alone.
    ///
    /// # Errors
    /// When there is no row, the rows have no labels, or a λ is below 0.
    pub fn path_of_moments(moments: &Moments, standardise: bool, l2: &[f64]) -> Result<Vec<Linear>, Error> {
        let spectrum = Spectrum::of_moments(moments, standardise)?;
        let ((mean, _), mut cross) = (moments.labels()?, moments.cross()?);
        cross *= &spectrum.standardise.inverse().insert_axis(Axis(1));
        solve(&spectrum, &cross, &mean, l2)
    }
}

/// A pivot of z-scores' correlations below this part of 1 is left to the eigenvalues, which know rounding from a
/// direction.
const PIVOT: f64 = 1e-9;

/// Least squares from sums alone, and the number of directions it used: as [`Ridge`] with λ = 0 on z-scores, by a
/// Cholesky factorisation where that is safe (30 times as fast), else by eigenvalues.
///
/// # Errors
/// As [`Ridge::path_of_moments`].
pub fn least_squares(moments: &Moments) -> Result<(Linear, usize), Error> {
    let by = Standardise::of(moments, true)?;
    let inverse = by.inverse();
    let (n, d) = (moments.n() as f64, moments.d());
    let ((mean, _), mut cross) = (moments.labels()?, moments.cross()?);
    cross *= &inverse.view().insert_axis(Axis(1));
    // Correlations; a constant dimension stands alone, and has no weight.
    let mut correlations = by.scaled(moments.scatter()) / n;
    let constant = by.constant();
    for i in &constant {
        correlations[[*i, *i]] = 1.0;
    }
    if let Some(solved) = crate::linalg::solve_safely(&correlations, &(&cross / n), PIVOT) {
        let weights = solved.reversed_axes() * &inverse;
        let bias = &mean - &weights.dot(&by.mean);
        let weights = weights.as_standard_layout().into_owned();
        return Ok((Linear { weights, bias, link: Link::Identity }, d - constant.len()));
    }
    let spectrum = Spectrum::of_moments(moments, true)?;
    let linear = solve(&spectrum, &cross, &mean, &[0.0])?.remove(0);
    Ok((linear, spectrum.rank()))
}

/// From `Σ z yᵀ` `(d, k)` and the mean of `y` `(k,)`: `W = V (Λ + λ)⁻¹ Vᵀ Σ z yᵀ`.
fn solve(
    spectrum: &Spectrum,
    cross: &Array2<f64>,
    mean: &Array1<f64>,
    l2: &[f64],
) -> Result<Vec<Linear>, Error> {
    let along = times(of(&spectrum.vectors), of(cross));
    let at = |l2: &f64| {
        not_negative("l2", *l2)?;
        let shrunk = &along / &spectrum.values.mapv(|v| v + l2).insert_axis(Axis(1));
        let weights = spectrum.raw(&shrunk);
        let bias = mean - &weights.dot(&spectrum.standardise.mean);
        Ok(Linear { weights, bias, link: Link::Identity })
    };
    l2.iter().map(at).collect()
}

/// Labels as numbers `(n, k)`; classes become one-hot.
fn numbers(data: &Labelled<'_>) -> Result<Array2<f64>, Error> {
    if let Labels::Numbers(y) = data.y {
        same_rows(data.x.nrows(), y.nrows())?;
        return match y.outer_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            Some(row) => Err(Error::NotFinite { row }),
            None => Ok(y.as_standard_layout().into_owned()),
        };
    }
    let (y, n_classes) = data.classes()?;
    let mut out = Array2::zeros((y.len(), n_classes));
    y.iter().enumerate().for_each(|(i, class)| out[[i, *class as usize]] = 1.0);
    Ok(out)
}

/// `Σ z yᵀ` `(d, k)`
fn cross(by: &Standardise, data: &Labelled<'_>, y: &Array2<f64>) -> Array2<f64> {
    let (d, k, inverse) = (data.x.ncols(), y.ncols(), by.inverse());
    let mut out = Array2::zeros((d, k));
    let mut block = Vec::with_capacity(BLOCK * d);
    for (x, y) in data.x.axis_chunks_iter(Axis(0), BLOCK).zip(y.axis_chunks_iter(Axis(0), BLOCK)) {
        block.clear();
        x.outer_iter().for_each(|row| by.row(row, &inverse, |_, v| block.push(v)));
        let y = rows(y.to_slice().expect("rows of an owned array"), x.nrows(), k);
        product(of_mut(&mut out), false, rows(&block, x.nrows(), d).transpose(), y);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probe;
    use crate::draw::tests::normal;
    use ndarray::array;

    #[test]
    fn by_hand() {
        // x = -1, 1 with y = 1, 5: slope 4 / (2 + λ), mean 3; with λ = 2 the slope is 1
        let (x, y) = (array![[-1f32], [1.]], array![[1.], [5.]]);
        let data = Labelled { x: x.view(), y: Labels::Numbers(y.view()) };
        let fitted = |l2| Ridge { l2, standardise: false }.fit(&data).unwrap();
        assert_eq!(fitted(0.0).scores(array![[1f32], [3.]].view()).unwrap(), array![[5.], [9.]]);
        let half = fitted(2.0);
        assert!((half.weights[[0, 0]] - 1.0).abs() < 1e-14 && (half.bias[0] - 3.0).abs() < 1e-14);
        let wrong = Ridge { l2: -1.0, standardise: false }.fit(&data).unwrap_err();
        assert_eq!(wrong.to_string(), "l2 is -1, expected a number not below 0");
    }

    #[test]
    fn rows_and_sums_agree_with_few_rows_and_with_many() {
        for (n, d) in [(300, 8), (20, 30)] {
            let (x, y) = (normal(n, d, 1) + 3.0, normal(n, 2, 2).mapv(f64::from));
            let classes: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
            for y in [Labels::Numbers(y.view()), Labels::Classes { y: &classes, n_classes: 3 }] {
                let data = Labelled { x: x.view(), y };
                let moments = Moments::of(&data).unwrap();
                for standardise in [false, true] {
                    let l2 = [0.1, 10.0];
                    let rows =
                        Ridge::path(&Spectrum::of_rows(x.view(), standardise).unwrap(), &data, &l2).unwrap();
                    let sums = Ridge::path_of_moments(&moments, standardise, &l2).unwrap();
                    for (a, b) in rows.iter().zip(&sums) {
                        assert!((&a.weights - &b.weights).mapv(f64::abs).sum() < 1e-8);
                        assert!((&a.bias - &b.bias).mapv(f64::abs).sum() < 1e-8);
                    }
                }
            }
        }
    }
}
