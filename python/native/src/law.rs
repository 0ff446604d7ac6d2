//! The law of next-token prediction.

use layerscope_probes::{Decay, Labelled, Labels, Moments, Residual};
use ndarray::ArrayView2;
use numpy::{IntoPyArray as _, PyArray1};
use pyo3::prelude::*;

use crate::labels::{Rows, Table, Vector, slice};
use crate::run::{refused, run};

fn moments<'a>(x: ArrayView2<'a, f32>, y: ArrayView2<'a, f64>) -> Result<Moments, layerscope_probes::Error> {
    Moments::of(&Labelled { x, y: Labels::Numbers(y) })
}

/// In sample, adjusted, held out `(k,)`, and the directions used.
type Residuals<'py> =
    (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, usize);

/// Prediction residuals of least squares on some rows, on them and on others.
#[pyfunction]
pub(crate) fn residual<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Table<'py>,
    held_x: Rows<'py>,
    held_y: Table<'py>,
) -> PyResult<Residuals<'py>> {
    let (fit, held) = ((x.as_array(), y.as_array()), (held_x.as_array(), held_y.as_array()));
    let found = run(py, || Residual::of(&moments(fit.0, fit.1)?, &moments(held.0, held.1)?))?;
    let Residual { in_sample, adjusted, held_out, rank, .. } = found;
    Ok((in_sample.into_pyarray(py), adjusted.into_pyarray(py), held_out.into_pyarray(py), rank))
}

/// The residual `(k,)` where every row is predicted from the rows of the other folds; `folds` has each one's first row
/// and, last, the number of rows.
#[pyfunction]
pub(crate) fn cross_validated_residual<'py>(
    py: Python<'py>,
    folds: Vec<(Rows<'py>, Table<'py>)>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let folds: Vec<_> = folds.iter().map(|(x, y)| (x.as_array(), y.as_array())).collect();
    let found = run(py, || {
        let folds = folds.into_iter().map(|(x, y)| moments(x, y)).collect::<Result<Vec<_>, _>>()?;
        layerscope_probes::cross_validated(&folds)
    })?;
    Ok(found.into_pyarray(py))
}

/// Slope, intercept, r², Pearson's r, ratio and rho of `log10 pr` on `layers`.
#[pyfunction]
pub(crate) fn decay(layers: Vector<'_>, pr: Vector<'_>) -> PyResult<(f64, f64, f64, f64, f64, f64)> {
    let Decay { slope, intercept, r2, pearson, ratio, rho } =
        Decay::fit(slice(&layers)?, slice(&pr)?).map_err(refused)?;
    Ok((slope, intercept, r2, pearson, ratio, rho))
}
