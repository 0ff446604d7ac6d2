//! Other labels of rows whose moments are summed: their sums by class, without a Gram matrix of their own.

use ndarray::{Array1, Array2, ArrayView2, Zip};

use crate::labels::{counts, finite, same_rows, same_width};
use crate::moments::LabelSums;
use crate::{Error, Labels, Moments};

/// Rows and `Σ x` of each class, `x` less the first row.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassSums {
    n: u64,
    /// The first row; until then 0.
    origin: Array1<f64>,
    counts: Vec<u64>,
    /// `(k, d)`
    sums: Array2<f64>,
}

impl ClassSums {
    /// Of no rows yet, of width `d`, in `n_classes` classes.
    pub fn new(d: usize, n_classes: usize) -> Self {
        Self {
            n: 0,
            origin: Array1::zeros(d),
            counts: vec![0; n_classes],
            sums: Array2::zeros((n_classes, d)),
        }
    }

    /// Adds a batch of rows `(m, d)` with their classes.
    ///
    /// # Errors
    /// When widths or numbers of rows differ, a label is no class, or a value is not finite; then nothing is added.
    pub fn add(&mut self, x: ArrayView2<'_, f32>, y: &[u32]) -> Result<(), Error> {
        same_width(self.origin.len(), x.ncols())?;
        same_rows(x.nrows(), y.len())?;
        finite(x)?;
        let (y, n_classes) = Labels::Classes { y, n_classes: self.counts.len() }.classes()?;
        if let Some(first) = x.outer_iter().next().filter(|_| self.n == 0) {
            self.origin = first.mapv(f64::from);
        }
        self.counts.iter_mut().zip(counts(y, n_classes)).for_each(|(total, n)| *total += n);
        for (row, class) in x.outer_iter().zip(y) {
            let sum = self.sums.row_mut(*class as usize);
            Zip::from(sum).and(&row).and(&self.origin).for_each(|s, v, o| *s += f64::from(*v) - o);
        }
        self.n += x.nrows() as u64;
        Ok(())
    }
}

impl Moments {
    /// The same rows with the labels of `sums`.
    ///
    /// # Errors
    /// When the widths or the numbers of rows differ.
    pub fn relabelled(&self, sums: &ClassSums) -> Result<Self, Error> {
        same_width(self.d(), sums.origin.len())?;
        same_rows(self.n() as usize, sums.n as usize)?;
        let (mut moved, by) = (sums.sums.clone(), &self.origin - &sums.origin);
        moved.outer_iter_mut().zip(&sums.counts).for_each(|(mut sum, n)| sum.scaled_add(-(*n as f64), &by));
        let mut copy = self.settled();
        copy.target = LabelSums::Classes { counts: sums.counts.clone(), sums: moved };
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;
    use crate::{Labelled, Lda};

    #[test]
    fn probes_of_other_labels_are_those_of_their_own_moments() {
        let x = normal(700, 5, 3).mapv(|v| 100.0 + v);
        let y: Vec<u32> = (0..700).map(|row| row % 2).collect();
        let other: Vec<u32> = (0..700).map(|row| (row * row / 7) % 3).collect();
        let of = |y: &[u32], n_classes| {
            Moments::of(&Labelled { x: x.view(), y: Labels::Classes { y, n_classes } }).unwrap()
        };
        let mut sums = ClassSums::new(5, 3);
        for rows in [0..250, 250..251, 251..700] {
            sums.add(x.slice(ndarray::s![rows.clone(), ..]), &other[rows]).unwrap();
        }
        let (own, relabelled) = (of(&other, 3), of(&y, 2).relabelled(&sums).unwrap());
        let fit = |moments: &Moments| Lda::default().fit_moments(moments).unwrap();
        let (a, b) = (fit(&own), fit(&relabelled));
        // Sums of 700 numbers near 1 about the same origin: rounding of 1e-13, times the condition of the covariance.
        assert!(
            (&a.weights - &b.weights).iter().all(|gap| gap.abs() < 1e-10)
                && (&a.bias - &b.bias)[0].abs() < 1e-8
        );
        assert!(sums.add(x.slice(ndarray::s![..2, ..]), &[0, 3]).is_err());
        assert!(of(&y, 2).relabelled(&ClassSums::new(5, 3)).is_err());
        assert!(of(&y, 2).relabelled(&ClassSums::new(4, 3)).is_err());
    }
}
