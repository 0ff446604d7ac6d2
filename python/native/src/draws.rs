//! Numbers about rows under other weightings of their groups: intervals, differences, the best of several.

use std::cell::RefCell;

use layerscope_probes::score::{Classified, R2};
use layerscope_probes::{self as probes, Estimate, Intervals, Method, Resamples};
use numpy::{IntoPyArray as _, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::interval::{Ends, bearable, ends};
use crate::labels::{Classes, Ids, Table, Vector, slice};
use crate::run::{ProbeError, refused, run, run_parallel};

/// The value, its interval, rows, groups, effective groups.
pub(crate) type Found = (f64, Ends, u64, u64, f64);

pub(crate) fn found(of: Estimate) -> Found {
    (of.estimate, ends(of.interval), of.n, of.n_clusters, of.n_eff)
}

/// The weightings of the rows of one test set.
#[pyclass(module = "layerscope._probes", frozen)]
pub(crate) struct Weightings(probes::Weightings);

#[pymethods]
impl Weightings {
    /// Of rows with these groups.
    #[new]
    fn new(
        py: Python<'_>,
        groups: Ids<'_>,
        method: &str,
        seed: u64,
        replicates: usize,
        serial: bool,
    ) -> PyResult<Self> {
        let method = match method {
            "jackknife" => Method::Jackknife,
            "bootstrap" => Method::Bootstrap,
            other => {
                return Err(ProbeError::new_err(format!(
                    "method {other:?}: expected jackknife or bootstrap"
                )));
            }
        };
        let intervals = Intervals::new(method, Resamples::new(seed, replicates));
        let intervals = if serial { intervals.serial() } else { intervals };
        let groups = slice(&groups)?;
        bearable(groups.len(), replicates)?;
        run_parallel(py, || probes::Weightings::new(groups, intervals)).map(Self)
    }

    /// Of some of these rows, in the same blocks.
    fn part(&self, py: Python<'_>, groups: Ids<'_>) -> PyResult<Self> {
        let groups = slice(&groups)?;
        run_parallel(py, || self.0.part(groups)).map(Self)
    }

    /// The mean of one outcome per row.
    fn mean(&self, py: Python<'_>, outcomes: Vector<'_>) -> PyResult<Draws> {
        let outcomes = slice(&outcomes)?;
        run_parallel(py, || self.0.mean(outcomes)).map(Draws)
    }

    /// Every metric of scores `(n, k)` beside the true classes.
    fn metrics(
        &self,
        py: Python<'_>,
        scores: Table<'_>,
        y: Classes<'_>,
    ) -> PyResult<Vec<(&'static str, Draws)>> {
        let (scores, y) = (scores.as_array(), slice(&y)?);
        let all = run_parallel(py, || Classified::new(scores, y)?.metrics(&self.0))?;
        Ok(all.into_iter().map(|(name, draws)| (name, Draws(draws))).collect())
    }

    /// R² of predicted numbers `(n, k)`.
    fn r2(&self, py: Python<'_>, predicted: Table<'_>, y: Table<'_>) -> PyResult<Draws> {
        let (predicted, y) = (predicted.as_array(), y.as_array());
        run_parallel(py, || self.0.metric(&R2::new(predicted, y)?)).map(Draws)
    }
}

/// A number with its values under each weighting.
#[pyclass(module = "layerscope._probes", frozen)]
pub(crate) struct Draws(probes::Draws);

#[pymethods]
impl Draws {
    /// On the rows themselves.
    #[getter]
    fn value(&self) -> f64 {
        self.0.value
    }

    /// Under each weighting.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.values.clone().into_pyarray(py)
    }

    /// The value with its interval.
    fn estimate(&self) -> Found {
        found(self.0.estimate())
    }

    /// The paired difference.
    fn minus(&self, other: &Self) -> PyResult<Self> {
        self.0.minus(&other.0).map(Self).map_err(refused)
    }

    /// With another sign.
    fn negated(&self) -> Self {
        Self(self.0.negated())
    }

    /// A function of the number, from float to float.
    fn map(&self, function: &Bound<'_, PyAny>) -> PyResult<Self> {
        let failed: RefCell<Option<PyErr>> = RefCell::new(None);
        let call = |value: f64| {
            function.call1((value,)).and_then(|out| out.extract::<f64>()).unwrap_or_else(|error| {
                failed.borrow_mut().get_or_insert(error);
                f64::NAN
            })
        };
        let mapped = self.0.map(call);
        failed.into_inner().map_or(Ok(Self(mapped)), Err)
    }

    /// There is nothing in a file that these numbers could be paired with again.
    #[allow(clippy::unused_self)] // Python calls it on the object
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "draws belong to their weightings and are not pickled: pickle their estimate()",
        ))
    }
}

fn copies(draws: &[PyRef<'_, Draws>]) -> Vec<probes::Draws> {
    draws.iter().map(|draws| draws.0.clone()).collect()
}

/// The best of several numbers of one set of weightings: its place, which are tied with it, its corrected estimate.
#[pyfunction]
pub(crate) fn best(py: Python<'_>, draws: Vec<PyRef<'_, Draws>>) -> PyResult<(usize, Vec<bool>, Found)> {
    let draws = copies(&draws);
    let best = run(py, || probes::best(&draws))?;
    Ok((best.place, best.tied, found(best.corrected)))
}

/// The place of the highest value that is a number.
#[pyfunction]
pub(crate) fn chosen(values: Vec<f64>) -> Option<usize> {
    probes::chosen(&values)
}

/// The mean over draws of labels, with both kinds of uncertainty.
#[pyfunction]
pub(crate) fn over_draws(py: Python<'_>, draws: Vec<PyRef<'_, Draws>>) -> PyResult<Found> {
    let draws = copies(&draws);
    Ok(found(run(py, || probes::over_draws(&draws))?))
}

/// The mean over parts of one set of rows, such as folds, of `n_clusters` groups.
#[pyfunction]
pub(crate) fn mean_of_parts(
    py: Python<'_>,
    draws: Vec<PyRef<'_, Draws>>,
    n_clusters: u64,
) -> PyResult<Draws> {
    let draws = copies(&draws);
    run(py, || probes::Draws::mean(&draws, n_clusters)).map(Draws)
}
