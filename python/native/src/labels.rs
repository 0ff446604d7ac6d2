//! Arguments as the library takes them.

use layerscope_probes::Labels;
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::run::ProbeError;

/// Rows `(n, d)`.
pub(crate) type Rows<'py> = PyReadonlyArray2<'py, f32>;
/// Numbers `(n, k)`.
pub(crate) type Table<'py> = PyReadonlyArray2<'py, f64>;
/// Numbers `(n,)`.
pub(crate) type Vector<'py> = PyReadonlyArray1<'py, f64>;
/// Classes `(n,)`.
pub(crate) type Classes<'py> = PyReadonlyArray1<'py, u32>;
/// Ids `(n,)`.
pub(crate) type Ids<'py> = PyReadonlyArray1<'py, u64>;

/// The numbers of a vector; it must lie in one piece.
pub(crate) fn slice<'a, T: numpy::Element>(of: &'a PyReadonlyArray1<'_, T>) -> PyResult<&'a [T]> {
    of.as_slice().map_err(|why| ProbeError::new_err(why.to_string()))
}

/// Labels of `n_classes` classes.
pub(crate) fn classes(y: &[u32], n_classes: usize) -> Labels<'_> {
    Labels::Classes { y, n_classes }
}
