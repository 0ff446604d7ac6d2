//! How a computation leaves the interpreter and comes back: with a result or an exception.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use layerscope_probes::Error;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    layerscope._probes,
    ProbeError,
    PyValueError,
    "Rows, labels or settings that a probe or a statistic cannot work with."
);
pyo3::create_exception!(
    layerscope._probes,
    NotConverged,
    ProbeError,
    "An optimiser that stopped before its tolerance."
);

/// Runs `work` without the interpreter's lock. An error is a [`ProbeError`] with the library's own line; a panic, which
/// would be a fault of ours, a `RuntimeError`.
pub(crate) fn run<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(done) => done.map_err(refused),
        Err(cause) => Err(PyRuntimeError::new_err(format!("layerscope failed: {}", said(cause.as_ref())))),
    }
}

/// As [`run`], for work that may use several threads: in threads of its own, because a pool that lives on would hang in
/// a process forked from this one. `RAYON_NUM_THREADS` says how many; no number depends on it.
pub(crate) fn run_parallel<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    let pool = rayon::ThreadPoolBuilder::new().build();
    let pool = pool.map_err(|why| PyRuntimeError::new_err(format!("no threads: {why}")))?;
    run(py, move || pool.install(work))
}

/// An error of the library as an exception.
pub(crate) fn refused(error: Error) -> PyErr {
    let line = error.to_string();
    if matches!(error, Error::NotConverged { .. }) {
        NotConverged::new_err(line)
    } else {
        ProbeError::new_err(line)
    }
}

fn said(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// Panics: that no panic crosses into Python is under test.
#[pyfunction(name = "_panic")]
pub(crate) fn panic_for_test(py: Python<'_>) -> PyResult<()> {
    run(py, || panic!("on request"))
}
