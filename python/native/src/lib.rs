//! `layerscope._probes`: the estimators, splits, controls and statistics of `layerscope-probes` for Python.
//!
//! What Python sees are functions of numpy arrays that give numpy arrays, and a few objects that keep what several
//! calls share. `layerscope.probes` puts scikit-learn's manner on top. Every call leaves the interpreter while it
//! computes, and neither a failure nor a panic gets across as anything but an exception ([`run`]).

mod baselines;
mod code;
mod controls;
mod draws;
mod estimators;
mod interval;
mod labels;
mod law;
mod linear;
mod pairs;
mod run;
mod splits;

use pyo3::prelude::*;

/// The probes and statistics of layerscope, without torch. Use them through `layerscope.probes`.
#[pymodule]
mod _probes {
    #[pymodule_export]
    use crate::baselines::{TypeMajority, count_tokens, logistic_counts, majority, shared_texts};
    #[pymodule_export]
    use crate::code::{online_code, shuffled_codes};
    #[pymodule_export]
    use crate::controls::{Permutations, control_labels, max_p_values, p_value, shuffled_labels};
    #[pymodule_export]
    use crate::draws::{Draws, Weightings, best, chosen, mean_of_parts, over_draws};
    #[pymodule_export]
    use crate::estimators::{centroid, lda, logistic_path, mean_difference, ridge_path, ridge_path_classes};
    #[pymodule_export]
    use crate::interval::{effective, jackknife, percentile, poisson_weights, share};
    #[pymodule_export]
    use crate::law::{cross_validated_residual, decay, residual};
    #[pymodule_export]
    use crate::linear::{log_softmax, scores, values};
    #[pymodule_export]
    use crate::pairs::{pair_direction, pair_orient, pair_scores};
    #[pymodule_export]
    use crate::run::{NotConverged, ProbeError, panic_for_test};
    #[pymodule_export]
    use crate::splits::{folds, split};

    use super::{Bound, PyModule, PyModuleMethods as _, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
