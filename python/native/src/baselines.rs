//! What the tokens alone give, and texts on two sides of a split.

use layerscope_probes::{Csr, Logistic, TokenColumns};
use numpy::{IntoPyArray as _, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::estimators::fitted_path;
use crate::labels::{Classes, Ids, classes, slice};
use crate::run::run;

/// The most frequent class.
#[pyfunction]
pub(crate) fn majority(py: Python<'_>, y: Classes<'_>, n_classes: usize) -> PyResult<u32> {
    let y = slice(&y)?;
    run(py, || layerscope_probes::majority(y, n_classes))
}

/// The class that each word type has most often.
#[pyclass(module = "layerscope._probes", frozen)]
pub(crate) struct TypeMajority(layerscope_probes::TypeMajority);

#[pymethods]
impl TypeMajority {
    /// Of the types and classes of the training rows.
    #[new]
    fn new(py: Python<'_>, types: Ids<'_>, y: Classes<'_>, n_classes: usize) -> PyResult<Self> {
        let (types, y) = (slice(&types)?, slice(&y)?);
        run(py, || layerscope_probes::TypeMajority::fit(types, y, n_classes)).map(Self)
    }

    /// The class of each type.
    fn predict<'py>(&self, py: Python<'py>, types: Ids<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let types = slice(&types)?;
        Ok(run(py, || Ok(self.0.predict(types)))?.into_pyarray(py))
    }

    /// How many of these rows are of a type seen in training.
    fn seen(&self, py: Python<'_>, types: Ids<'_>) -> PyResult<usize> {
        let types = slice(&types)?;
        run(py, || Ok(self.0.seen(types)))
    }
}

/// Sparse rows: starts, columns, values.
type Sparse<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<f32>>);

/// The tokens of `texts` counted in columns for those of `known`; other tokens are left out.
#[pyfunction]
pub(crate) fn count_tokens(
    py: Python<'_>,
    known: Vec<Vec<u32>>,
    texts: Vec<Vec<u32>>,
) -> PyResult<Sparse<'_>> {
    let (starts, columns, values) = run(py, || {
        let counts = TokenColumns::fit(&known).counts(&texts)?;
        let (mut starts, mut columns, mut values) = (vec![0_i64], Vec::new(), Vec::new());
        for row in 0..texts.len() {
            for (column, value) in counts.row(row) {
                columns.push(column as u32);
                values.push(value);
            }
            starts.push(columns.len() as i64);
        }
        Ok((starts, columns, values))
    })?;
    Ok((starts.into_pyarray(py), columns.into_pyarray(py), values.into_pyarray(py)))
}

/// Logistic regressions on sparse rows, which are not standardised: weights, biases and how each fit ended.
#[pyfunction]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // a sparse matrix is three arrays
pub(crate) fn logistic_counts<'py>(
    py: Python<'py>,
    cols: usize,
    starts: PyReadonlyArray1<'py, i64>,
    columns: PyReadonlyArray1<'py, u32>,
    values: PyReadonlyArray1<'py, f32>,
    y: Classes<'py>,
    n_classes: usize,
    l2: Vec<f64>,
    balanced: bool,
    tolerance: f64,
) -> PyResult<
    Vec<((Bound<'py, numpy::PyArray2<f64>>, Bound<'py, PyArray1<f64>>), (usize, usize, f64, f64, f64, bool))>,
> {
    let starts: Vec<usize> =
        slice(&starts)?.iter().map(|start| usize::try_from(*start).unwrap_or(usize::MAX)).collect();
    let (columns, values, y) = (slice(&columns)?.to_vec(), slice(&values)?.to_vec(), slice(&y)?);
    let probes = run(py, || {
        let x = Csr::new(cols, starts, columns, values)?;
        let logistic = Logistic { balanced, tolerance, standardise: false, ..Logistic::default() };
        logistic.path_plain(&x, &classes(y, n_classes), &l2)
    })?;
    Ok(fitted_path(py, probes))
}

/// Texts on more than one side of a split: same, near, of how many, an example, and the warning.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub(crate) fn shared_texts(
    py: Python<'_>,
    texts: Vec<String>,
    parts: Vec<Vec<usize>>,
) -> PyResult<Option<(usize, usize, usize, (usize, usize), String)>> {
    let found = run(py, || {
        let parts: Vec<&[usize]> = parts.iter().map(Vec::as_slice).collect();
        Ok(layerscope_probes::shared_texts(&texts, &parts))
    })?;
    Ok(found.map(|found| (found.same, found.near, found.of, found.example, found.to_string())))
}
