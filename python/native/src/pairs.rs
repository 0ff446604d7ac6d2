//! Directions over pairs of a statement and its negation.

use layerscope_probes::{Ccs, PairDirection, PairProbe, Pairs};
use numpy::{IntoPyArray as _, PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::labels::{Rows, Table, Vector};
use crate::linear::linear;
use crate::run::run;

/// Weights of both sides `(2, d)`, their biases `(2,)`, and the loss of CCS.
type Direction<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>, f64);

fn parts(py: Python<'_>, probe: PairProbe) -> Direction<'_> {
    let mut weights = ndarray::Array2::zeros((2, probe.positive.d()));
    let mut bias = ndarray::Array1::zeros(2);
    for (i, side) in [probe.positive, probe.negative].iter().enumerate() {
        weights.row_mut(i).assign(&side.weights.row(0));
        bias[i] = side.bias[0];
    }
    (weights.into_pyarray(py), bias.into_pyarray(py), probe.loss)
}

fn probe(weights: &Table<'_>, bias: &Vector<'_>) -> PyResult<PairProbe> {
    let both = linear(weights, bias, "identity")?;
    if both.bias.len() != 2 {
        let why = format!("{} sides, expected the statement's and its negation's", both.bias.len());
        return Err(crate::run::ProbeError::new_err(why));
    }
    let side = |i: usize| layerscope_probes::Linear {
        weights: both.weights.slice(ndarray::s![i..=i, ..]).to_owned(),
        bias: both.bias.slice(ndarray::s![i..=i]).to_owned(),
        link: layerscope_probes::Link::Sigmoid,
    };
    Ok(PairProbe { positive: side(0), negative: side(1), loss: 0.0, oriented: false })
}

/// CCS with `restarts`, or without them the top component of the differences (CRC-TPC).
#[pyfunction]
pub(crate) fn pair_direction<'py>(
    py: Python<'py>,
    positive: Rows<'py>,
    negative: Rows<'py>,
    restarts: Option<usize>,
    steps: usize,
    seed: u64,
) -> PyResult<Direction<'py>> {
    let pairs = Pairs { positive: positive.as_array(), negative: negative.as_array() };
    let how = restarts.map_or(PairDirection::TopComponent, |restarts| {
        PairDirection::Consistency(Ccs { restarts, steps, seed })
    });
    Ok(parts(py, run(py, || how.fit(pairs))?))
}

/// How likely each statement is to be true `(n,)`, once oriented.
#[pyfunction]
pub(crate) fn pair_scores<'py>(
    py: Python<'py>,
    weights: Table<'py>,
    bias: Vector<'py>,
    positive: Rows<'py>,
    negative: Rows<'py>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let probe = probe(&weights, &bias)?;
    let pairs = Pairs { positive: positive.as_array(), negative: negative.as_array() };
    Ok(run(py, || probe.scores(pairs))?.into_pyarray(py))
}

/// Turns a direction by labelled pairs; with its accuracy on them in the place of the loss.
#[pyfunction]
pub(crate) fn pair_orient<'py>(
    py: Python<'py>,
    weights: Table<'py>,
    bias: Vector<'py>,
    positive: Rows<'py>,
    negative: Rows<'py>,
    truth: Vec<bool>,
) -> PyResult<Direction<'py>> {
    let mut probe = probe(&weights, &bias)?;
    let pairs = Pairs { positive: positive.as_array(), negative: negative.as_array() };
    let oriented = run(py, || {
        let accuracy = probe.orient(pairs, &truth)?;
        Ok(PairProbe { loss: accuracy, ..probe })
    })?;
    Ok(parts(py, oriented))
}
