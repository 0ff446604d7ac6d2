//! Control tasks and permutation tests.

use layerscope_probes::{ControlTask, Labels};
use numpy::{IntoPyArray as _, PyArray1};
use pyo3::prelude::*;

use crate::labels::{Classes, Ids, Table, Vector, classes, slice};
use crate::run::{refused, run};

/// A random label for every word type, with the frequencies of `y`.
#[pyfunction]
pub(crate) fn control_labels<'py>(
    py: Python<'py>,
    y: Classes<'py>,
    n_classes: usize,
    types: Ids<'py>,
    seed: u64,
    draw: u64,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let (y, types) = (slice(&y)?, slice(&types)?);
    Ok(run(py, || Ok(ControlTask::new(y, n_classes, seed, draw)?.labels(types)))?.into_pyarray(py))
}

/// Labels shuffled, by whole groups where each has one label.
#[pyfunction]
pub(crate) fn shuffled_labels<'py>(
    py: Python<'py>,
    y: Classes<'py>,
    groups: Ids<'py>,
    seed: u64,
    draw: u64,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let (y, groups) = (slice(&y)?, slice(&groups)?);
    Ok(run(py, || layerscope_probes::shuffled_labels(y, groups, seed, draw))?.into_pyarray(py))
}

/// Labels of grouped rows, to be permuted as the null hypothesis allows.
#[pyclass(module = "layerscope._probes", frozen)]
pub(crate) struct Permutations(layerscope_probes::Permutations);

#[pymethods]
impl Permutations {
    /// Of classes.
    #[staticmethod]
    fn of_classes(
        py: Python<'_>,
        y: Classes<'_>,
        n_classes: usize,
        groups: Ids<'_>,
        seed: u64,
    ) -> PyResult<Self> {
        let (y, groups) = (slice(&y)?, slice(&groups)?);
        run(py, || layerscope_probes::Permutations::new(&classes(y, n_classes), groups, seed)).map(Self)
    }

    /// Of numbers `(n, k)`.
    #[staticmethod]
    fn of_numbers(py: Python<'_>, y: Table<'_>, groups: Ids<'_>, seed: u64) -> PyResult<Self> {
        let (y, groups) = (y.as_array(), slice(&groups)?);
        run(py, || layerscope_probes::Permutations::new(&Labels::Numbers(y), groups, seed)).map(Self)
    }

    /// For each row, the row whose label it gets.
    fn rows<'py>(&self, py: Python<'py>, round: u64) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let rows = run(py, || Ok(self.0.rows(round)))?;
        Ok(rows.into_iter().map(|row| row as i64).collect::<Vec<_>>().into_pyarray(py))
    }

    /// What is exchanged.
    #[getter]
    fn exchange(&self) -> String {
        self.0.exchange().to_string()
    }

    /// How many different ways there are, where groups exchange their labels whole.
    #[getter]
    fn ways(&self) -> Option<f64> {
        self.0.ways()
    }
}

/// p of an observed statistic.
#[pyfunction]
pub(crate) fn p_value(observed: f64, null: Vector<'_>) -> PyResult<f64> {
    layerscope_probes::p_value(observed, slice(&null)?).map_err(refused)
}

/// p of several statistics, corrected for their number.
#[pyfunction]
pub(crate) fn max_p_values<'py>(
    py: Python<'py>,
    observed: Vector<'py>,
    null: Table<'py>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (observed, null) = (slice(&observed)?, null.as_array());
    Ok(run(py, || layerscope_probes::max_p_values(observed, null))?.into_pyarray(py))
}
