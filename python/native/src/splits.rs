//! Splits by group.

use layerscope_probes::{Error, Labels, Shares, Split};
use numpy::{IntoPyArray as _, PyArray1};
use pyo3::prelude::*;

use crate::labels::{Classes, Ids, classes, slice};
use crate::run::run;

/// Rows of a part, ascending.
type Part<'py> = Bound<'py, PyArray1<i64>>;

fn part(py: Python<'_>, rows: Vec<usize>) -> Part<'_> {
    rows.into_iter().map(|row| row as i64).collect::<Vec<_>>().into_pyarray(py)
}

/// Rows of train, validation and test: whole groups, with every class in its share. Numbers are one class.
#[pyfunction]
pub(crate) fn split<'py>(
    py: Python<'py>,
    y: Classes<'py>,
    names: Vec<String>,
    groups: Ids<'py>,
    shares: (f64, f64, f64),
    seed: u64,
) -> PyResult<(Part<'py>, Part<'py>, Part<'py>)> {
    let (y, groups, n) = (slice(&y)?, slice(&groups)?, names.len());
    let (train, validation, test) = shares;
    let shares = Shares { train, validation, test };
    let labels: Labels<'_> = classes(y, n);
    let split = run(py, || Split::new(groups, &labels, shares, seed).map_err(|error| error.named(&names)))?;
    Ok((part(py, split.train.rows), part(py, split.validation.rows), part(py, split.test.rows)))
}

/// `(train, test)` rows of each fold.
#[pyfunction]
pub(crate) fn folds<'py>(
    py: Python<'py>,
    y: Classes<'py>,
    names: Vec<String>,
    groups: Ids<'py>,
    n_folds: usize,
    seed: u64,
) -> PyResult<Vec<(Part<'py>, Part<'py>)>> {
    let (y, groups, n) = (slice(&y)?, slice(&groups)?, names.len());
    let labels = classes(y, n);
    let folds = run(py, || {
        // Said here, before the library makes a name for each of a billion folds.
        if n_folds > groups.len() {
            let distinct = groups.iter().collect::<std::collections::HashSet<_>>().len();
            return Err(Error::TooFewGroups { groups: distinct, parts: n_folds });
        }
        layerscope_probes::folds(groups, &labels, n_folds, seed).map_err(|error| error.named(&names))
    })?;
    Ok(folds.into_iter().map(|fold| (part(py, fold.train.rows), part(py, fold.test.rows))).collect())
}
