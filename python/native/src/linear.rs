//! What a fitted linear probe says of rows.

use layerscope_probes::{Linear, Link, Probe as _};
use numpy::{IntoPyArray as _, PyArray2};
use pyo3::prelude::*;

use crate::labels::{Rows, Table, Vector};
use crate::run::{ProbeError, run};

/// The link of a name.
fn link(name: &str) -> PyResult<Link> {
    Ok(match name {
        "identity" => Link::Identity,
        "margin" => Link::Margin,
        "sigmoid" => Link::Sigmoid,
        "softmax" => Link::Softmax,
        other => {
            let expected = "expected identity, margin, sigmoid or softmax";
            return Err(ProbeError::new_err(format!("link {other:?}: {expected}")));
        }
    })
}

/// A linear probe of its parts.
pub(crate) fn linear(weights: &Table<'_>, bias: &Vector<'_>, name: &str) -> PyResult<Linear> {
    let (weights, bias) = (weights.as_array().to_owned(), bias.as_array().to_owned());
    let standard = weights.as_standard_layout().into_owned();
    Linear::new(standard, bias, link(name)?).map_err(crate::run::refused)
}

/// Scores `(n, k)` of rows `(n, d)`: of classes log-probabilities where the link has them.
#[pyfunction]
pub(crate) fn scores<'py>(
    py: Python<'py>,
    weights: Table<'py>,
    bias: Vector<'py>,
    link: &str,
    x: Rows<'py>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (probe, x) = (linear(&weights, &bias, link)?, x.as_array());
    Ok(run(py, || probe.scores(x))?.into_pyarray(py))
}

/// `x · weights + bias` `(n, k)`, before any link.
#[pyfunction]
pub(crate) fn values<'py>(
    py: Python<'py>,
    weights: Table<'py>,
    bias: Vector<'py>,
    x: Rows<'py>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (probe, x) = (linear(&weights, &bias, "identity")?, x.as_array());
    Ok(run(py, || probe.values(x))?.into_pyarray(py))
}

/// `log softmax` of each row of `(n, k)`.
#[pyfunction]
pub(crate) fn log_softmax<'py>(py: Python<'py>, scores: Table<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let scores = scores.as_array();
    Ok(run(py, || Ok(layerscope_probes::score::log_softmax(scores)))?.into_pyarray(py))
}
