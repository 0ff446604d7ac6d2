//! The nearest class mean.

use crate::{Error, Fit, Labelled, Linear, Link, Moments, Standardise};

/// The class whose mean is nearest; scores are `-½ |x - μ|²` without their common part, so linear: `μ · x - ½ |μ|²`.
///
/// Where all means are the same, the class with the most rows is as good a guess as any can be: scores are the
/// logarithms of the classes' shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Centroid {
    /// Whether distances are of z-scores.
    pub standardise: bool,
}

impl Centroid {
    /// From sums alone.
    ///
    /// # Errors
    /// When the labels are no classes, or a class has no row.
    pub fn fit_moments(&self, moments: &Moments) -> Result<Linear, Error> {
        let (counts, mut means) = moments.classes()?;
        let by = Standardise::of(moments, self.standardise)?;
        means -= &by.mean;
        means *= &by.inverse();
        let alike = means.outer_iter().all(|m| m == means.row(0));
        let bias = if alike {
            means.fill(0.0);
            counts.iter().map(|n| (*n as f64 / moments.n() as f64).ln()).collect()
        } else {
            means.map_axis(ndarray::Axis(1), |m| -m.dot(&m) / 2.0)
        };
        Linear::new(means, bias, Link::Identity)?.fold(&by)
    }
}

impl Fit for Centroid {
    type Fitted = Linear;

    fn fit(&self, data: &Labelled<'_>) -> Result<Linear, Error> {
        data.classes()?;
        self.fit_moments(&Moments::of(data)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Labels, Probe};
    use ndarray::array;

    #[test]
    fn by_hand() {
        // means 0, 4 and 10
        let x = array![[-1f32], [1.], [4.], [9.], [11.]];
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 1, 2, 2], n_classes: 3 } };
        let scores = Centroid::default().fit(&data).unwrap().scores(array![[3f32], [7.]].view()).unwrap();
        // at 3 distances are 3, 1, 7: differences of -½ distance²; at 7 classes 1 and 2 tie
        assert!((scores[[0, 1]] - scores[[0, 0]] - (9. - 1.) / 2.).abs() < 1e-12);
        assert!((scores[[0, 1]] - scores[[0, 2]] - (49. - 1.) / 2.).abs() < 1e-12);
        assert!((scores[[1, 1]] - scores[[1, 2]]).abs() < 1e-12);
    }

    #[test]
    fn of_classes_with_one_mean_the_commonest_is_nearest() {
        for x in [array![[2f32, 1.], [2., 1.], [2., 1.]], array![[3f32, 1.], [1., 1.], [5., 1.]]] {
            // Constant rows; and rows 3, 1, 5, whose classes have the mean 3 both.
            let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 1, 1], n_classes: 2 } };
            for standardise in [false, true] {
                let scores = Centroid { standardise }.fit(&data).unwrap().scores(x.view()).unwrap();
                for row in scores.outer_iter() {
                    assert_eq!((row[0], row[1]), ((1f64 / 3.).ln(), (2f64 / 3.).ln()));
                }
            }
        }
    }
}
