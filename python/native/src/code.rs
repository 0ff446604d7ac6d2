//! The online code (MDL) of a logistic probe, and that of labels that mean nothing.

use layerscope_probes::{CodeLength, Error, Labels, Logistic, Message, Probe as _, Standardise, Whitened};
use ndarray::{Array2, ArrayView2, Axis};
use numpy::{IntoPyArray as _, PyArray1};
use pyo3::prelude::*;

use crate::labels::{Classes, Ids, Rows, slice};
use crate::run::run;

/// Bits of each row, how many rows cost log2 K, and log2 K.
type Code<'py> = (Bound<'py, PyArray1<f64>>, usize, f64);

fn code(py: Python<'_>, code: CodeLength) -> Code<'_> {
    (code.bits.into_pyarray(py), code.uniform_rows, code.log2_classes)
}

/// The logistic probe of the code.
struct Coder<'a> {
    x: ArrayView2<'a, f32>,
    n_classes: usize,
    /// Largest first: each starts from the one before.
    l2: Vec<f64>,
    logistic: Logistic,
    /// Nothing can be learnt: every label costs what it costs without rows.
    constant: bool,
}

impl<'a> Coder<'a> {
    fn new(
        x: ArrayView2<'a, f32>,
        n_classes: usize,
        mut l2: Vec<f64>,
        logistic: Logistic,
    ) -> Result<Self, Error> {
        l2.sort_by(|a, b| b.total_cmp(a));
        let constant = Standardise::of_rows(x)?.is_constant();
        Ok(Self { x, n_classes, l2, logistic, constant })
    }

    /// Log-probabilities of the rows `block` by probes of the rows `before`.
    fn fit(&self, y: &[u32], before: &[usize], block: &[usize]) -> Result<Vec<Array2<f64>>, Error> {
        if self.constant {
            let even = -(self.n_classes as f64).ln();
            return Ok(vec![Array2::from_elem((block.len(), self.n_classes), even)]);
        }
        let own: Vec<u32> = before.iter().map(|row| y[*row]).collect();
        let rows = Whitened::new(self.x.select(Axis(0), before).view(), self.logistic.standardise)?;
        let labels = Labels::Classes { y: &own, n_classes: self.n_classes };
        let path = self.logistic.path(&rows, &labels, &self.l2)?;
        let block = self.x.select(Axis(0), block);
        path.iter().map(|probe| probe.scores(block.view())).collect()
    }
}

fn coder(standardise: bool, balanced: bool, tolerance: f64) -> Logistic {
    Logistic { standardise, balanced, tolerance, ..Logistic::default() }
}

/// The code length of the labels in order number `order`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // the parameters of the estimator, by name
pub(crate) fn online_code<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    groups: Ids<'py>,
    l2: Vec<f64>,
    standardise: bool,
    balanced: bool,
    tolerance: f64,
    seed: u64,
    order: u64,
) -> PyResult<Code<'py>> {
    let (x, y, groups) = (x.as_array(), slice(&y)?, slice(&groups)?);
    let found = run(py, || {
        let coder = Coder::new(x, n_classes, l2, coder(standardise, balanced, tolerance))?;
        let message = Message { y, n_classes, groups, seed };
        layerscope_probes::online_code(&message, order, &mut |y, before, block| coder.fit(y, before, block))
    })?;
    Ok(code(py, found))
}

/// The code lengths of shuffled labels, another shuffle in each order below `orders`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // the parameters of the estimator, by name
pub(crate) fn shuffled_codes<'py>(
    py: Python<'py>,
    x: Rows<'py>,
    y: Classes<'py>,
    n_classes: usize,
    groups: Ids<'py>,
    l2: Vec<f64>,
    standardise: bool,
    balanced: bool,
    tolerance: f64,
    seed: u64,
    orders: u64,
) -> PyResult<Vec<Code<'py>>> {
    let (x, y, groups) = (x.as_array(), slice(&y)?, slice(&groups)?);
    let found = run(py, || {
        let coder = Coder::new(x, n_classes, l2, coder(standardise, balanced, tolerance))?;
        let message = Message { y, n_classes, groups, seed };
        layerscope_probes::shuffled_codes(&message, orders, &mut |y, before, block| {
            coder.fit(y, before, block)
        })
    })?;
    Ok(found.into_iter().map(|one| code(py, one)).collect())
}
