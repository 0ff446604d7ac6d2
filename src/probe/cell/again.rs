//! The same probe fitted to labels that mean nothing.

use layerscope_probes::{Error, Probe as _, score::Classified};
use ndarray::{Array2, ArrayView2};

use super::super::{Estimator, estimator::Prepared, labelling::Labelling};

/// The same probe with other labels, at the penalty that the true ones have.
pub(super) struct Again<'a> {
    pub(super) prepared: &'a Prepared<'a>,
    pub(super) estimator: Estimator,
    pub(super) l2: Option<f64>,
    pub(super) test_x: ArrayView2<'a, f32>,
}

impl Again<'_> {
    /// 1 where a probe fitted to each of these labellings is right, `(labellings, n_test)`; NaN where it cannot be
    /// fitted.
    pub(super) fn right(&self, labellings: &[Labelling]) -> Result<Array2<f64>, Error> {
        let mut right = Array2::from_elem((labellings.len(), self.test_x.nrows()), f64::NAN);
        for (mut right, labels) in right.outer_iter_mut().zip(labellings) {
            if !labels.fits(self.estimator, self.prepared.paired()) {
                continue;
            }
            let l2: Vec<f64> = self.l2.into_iter().collect();
            let fitted = self.prepared.fit(self.estimator, &labels.train.labels(), &l2)?.remove(0);
            let scores = fitted.linear.scores(self.test_x)?;
            let found = Classified::new(scores.view(), &vec![0; scores.nrows()])?;
            for (item, (right, found)) in right.iter_mut().zip(found.predicted()).enumerate() {
                *right = labels.right(*found, item);
            }
        }
        Ok(right)
    }
}
