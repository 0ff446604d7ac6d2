//! Estimators: rows and labels in, directions and biases out.

use layerscope_probes::{
    Centroid, Fit, Labelled, Labels, Lda, Linear, Logistic, LogisticProbe, MeanDifference, Ridge, Shrinkage,
    Spectrum, Whitened,
};
use numpy::{IntoPyArray as _, PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::labels::{Classes, Rows, Table, classes, slice};
use crate::run::run;

/// Weights `(k, d)` and biases `(k,)`.
type Fitted<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>);

pub(crate) fn fitted(py: Python<'_>, linear: Linear) -> Fitted<'_> {
    (linear.weights.into_pyarray(py), linear.bias.into_pyarray(py))
}

/// How a fit ended: iterations, evaluations, objective, gradient norm, gap, converged.
type Ending = (usize, usize, f64, f64, f64, bool);

/// The probes of a path of penalties.
pub(crate) fn fitted_path(py: Python<'_>, probes: Vec<LogisticProbe>) -> Vec<(Fitted<'_>, Ending)> {
    let one = |LogisticProbe { linear, convergence: end, .. }| {
        let end = (end.iterations, end.evaluations, end.objective, end.gradient, end.gap, end.converged);
        (fitted(py, linear), end)
    };
    probes.into_iter().map(one).collect()
}

/// A logistic regression for each penalty, largest first inside, given in the order of `l2`. A fit of one penalty that
/// does not converge is an error when `must_converge`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // the parameters of the estimator, by name
pub(crate) fn logistic_path<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    l2: Vec<f64>,
    standardise: bool,
    balanced: bool,
    tolerance: f64,
    max_iterations: usize,
    must_converge: bool,
) -> PyResult<Vec<(Fitted<'py>, Ending)>> {
    let (rows, y) = (x.as_array(), slice(&y)?);
    let probes = run(py, || {
        let logistic = Logistic { l2: 1.0, standardise, balanced, tolerance, max_iterations };
        let data = Labelled { x: rows, y: classes(y, n_classes) };
        if let (true, [l2]) = (must_converge, l2.as_slice()) {
            return Ok(vec![Logistic { l2: *l2, ..logistic }.fit(&data)?]);
        }
        logistic.path(&Whitened::new(rows, standardise)?, &data.y, &l2)
    })?;
    Ok(fitted_path(py, probes))
}

/// A ridge regression of numbers `(n, k)` for each penalty.
#[pyfunction]
pub(crate) fn ridge_path<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Table<'py>,
    l2: Vec<f64>,
    standardise: bool,
) -> PyResult<Vec<Fitted<'py>>> {
    let data = Labelled { x: x.as_array(), y: Labels::Numbers(y.as_array()) };
    ridge(py, &data, &l2, standardise)
}

/// A ridge regression of classes as one-hot rows for each penalty.
#[pyfunction]
pub(crate) fn ridge_path_classes<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    l2: Vec<f64>,
    standardise: bool,
) -> PyResult<Vec<Fitted<'py>>> {
    let data = Labelled { x: x.as_array(), y: classes(slice(&y)?, n_classes) };
    ridge(py, &data, &l2, standardise)
}

fn ridge<'py>(
    py: Python<'py>,
    data: &Labelled<'_>,
    l2: &[f64],
    standardise: bool,
) -> PyResult<Vec<Fitted<'py>>> {
    let probes = run(py, || {
        if let [l2] = l2 {
            return Ok(vec![Ridge { l2: *l2, standardise }.fit(data)?]);
        }
        Ridge::path(&Spectrum::of_rows(data.x, standardise)?, data, l2)
    })?;
    Ok(probes.into_iter().map(|linear| fitted(py, linear)).collect())
}

/// A closed form fitted to classes.
fn of_classes<'py>(
    py: Python<'py>,
    x: &Rows<'py>,
    (y, n_classes): (&Classes<'py>, usize),
    estimator: &(impl Fit<Fitted = Linear> + Sync),
) -> PyResult<Fitted<'py>> {
    let data = Labelled { x: x.as_array(), y: classes(slice(y)?, n_classes) };
    Ok(fitted(py, run(py, || estimator.fit(&data))?))
}

/// Linear discriminant analysis; without a `shrinkage`, that of OAS.
#[pyfunction]
pub(crate) fn lda<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    shrinkage: Option<f64>,
    standardise: bool,
) -> PyResult<Fitted<'py>> {
    let shrinkage = shrinkage.map_or(Shrinkage::Oas, Shrinkage::Fixed);
    of_classes(py, &x, (&y, n_classes), &Lda { shrinkage, standardise })
}

/// The difference of the means of two classes.
#[pyfunction]
pub(crate) fn mean_difference<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    standardise: bool,
) -> PyResult<Fitted<'py>> {
    of_classes(py, &x, (&y, n_classes), &MeanDifference { standardise })
}

/// The nearest class mean.
#[pyfunction]
pub(crate) fn centroid<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    standardise: bool,
) -> PyResult<Fitted<'py>> {
    of_classes(py, &x, (&y, n_classes), &Centroid { standardise })
}
