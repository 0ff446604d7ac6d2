//! `layerscope._probes`: the estimators, splits, controls and statistics of `layerscope-probes` for Python.

use pyo3::prelude::*;

/// Probes and statistics, without torch.
#[pymodule]
mod _probes {}
