//! 95 % intervals of numbers that are known already.

use layerscope_probes::interval::{self, Spread};
use layerscope_probes::{Interval, NoInterval, Resamples};
use numpy::{IntoPyArray as _, PyArray2};
use pyo3::prelude::*;

use crate::labels::{Ids, Vector, slice};
use crate::run::{ProbeError, run};

/// Both ends, or why there is no interval.
pub(crate) type Ends = (Option<f64>, Option<f64>, Option<String>);

pub(crate) fn ends(interval: Result<Interval, NoInterval>) -> Ends {
    match interval {
        Ok(Interval { lower, upper }) => (Some(lower), Some(upper), None),
        Err(why) => (None, None, Some(why.to_string())),
    }
}

/// By the values without each cluster in turn.
#[pyfunction]
pub(crate) fn jackknife(estimate: f64, left_out: Vector<'_>, n_eff: f64) -> PyResult<Ends> {
    let spread = interval::jackknife(slice(&left_out)?, n_eff);
    Ok(ends(spread.and_then(|spread| spread.around(estimate))))
}

/// Wilson's interval of a share `p` of `n` rows in `n_eff` effective clusters, with its jackknife variance.
#[pyfunction]
pub(crate) fn share(p: f64, variance: f64, n_eff: f64, n: f64) -> Ends {
    ends(interval::share(p, Spread { variance, n_eff }, n))
}

/// Percentiles of a bootstrap, of which at most the share `undefined` may be NaN.
#[pyfunction]
pub(crate) fn percentile(values: Vec<f64>, undefined: f64) -> Ends {
    ends(interval::percentile(values, undefined))
}

/// `(Σ m)² / Σ m²`.
#[pyfunction]
pub(crate) fn effective(sizes: Vec<f64>) -> f64 {
    interval::effective(sizes)
}

/// Bytes that the weights of a bootstrap may take: a byte for each group and replicate.
const MOST_WEIGHTS: usize = 1 << 36;

/// Refuses a bootstrap that would not fit in memory: a failed allocation ends the process.
pub(crate) fn bearable(groups: usize, replicates: usize) -> PyResult<()> {
    match groups.max(1).checked_mul(replicates) {
        Some(weights) if weights <= MOST_WEIGHTS => Ok(()),
        _ => Err(ProbeError::new_err(format!(
            "{replicates} replicates of {groups} rows: more than {MOST_WEIGHTS} weights"
        ))),
    }
}

/// How often each document is drawn in each replicate `(documents, replicates)`.
#[pyfunction]
pub(crate) fn poisson_weights<'py>(
    py: Python<'py>,
    ids: Ids<'py>,
    seed: u64,
    replicates: usize,
) -> PyResult<Bound<'py, PyArray2<u8>>> {
    let ids = slice(&ids)?;
    bearable(ids.len(), replicates)?;
    let drawn = run(py, || {
        let mut all = Vec::with_capacity(ids.len() * replicates);
        for id in ids {
            Resamples::new(seed, replicates).append_weights(*id, &mut all);
        }
        Ok(ndarray::Array2::from_shape_vec((ids.len(), replicates), all))
    })?;
    Ok(drawn.map_err(|why| ProbeError::new_err(why.to_string()))?.into_pyarray(py))
}
