//! Checks on what comes in.

use ndarray::ArrayView2;

use crate::{Error, Labelled, Labels};

impl<'a> Labels<'a> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { y, .. } => y.len(),
            Self::Numbers(y) => y.nrows(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Classes `(n,)` and their number.
    ///
    /// # Errors
    /// When these are numbers, or a label is no class.
    pub fn classes(&self) -> Result<(&'a [u32], usize), Error> {
        let Self::Classes { y, n_classes } = *self else {
            return Err(Error::Kind { expected: "classes", got: "numbers" });
        };
        match y.iter().position(|c| *c as usize >= n_classes) {
            Some(row) => Err(Error::NoSuchClass { row, class: y[row], n_classes }),
            None => Ok((y, n_classes)),
        }
    }
}

impl<'a> Labelled<'a> {
    /// Rows `(n, d)` and classes `(n,)`, with a row of every class.
    pub(crate) fn classes(&self) -> Result<(&'a [u32], usize), Error> {
        let (y, n_classes) = self.y.classes()?;
        same_rows(self.x.nrows(), y.len())?;
        every_class(&counts(y, n_classes))?;
        Ok((y, n_classes))
    }
}

/// Rows of each class.
pub(crate) fn counts(y: &[u32], n_classes: usize) -> Vec<u64> {
    let mut counts = vec![0; n_classes];
    for class in y {
        counts[*class as usize] += 1;
    }
    counts
}

pub(crate) fn every_class(counts: &[u64]) -> Result<(), Error> {
    let n_classes = counts.len();
    if n_classes < 2 {
        return Err(Error::Classes { expected: "at least 2", got: n_classes });
    }
    match counts.iter().position(|n| *n == 0) {
        Some(class) => Err(Error::LacksClass { class: class.into() }),
        None => Ok(()),
    }
}

pub(crate) fn same_rows(rows: usize, labels: usize) -> Result<(), Error> {
    if rows == labels { Ok(()) } else { Err(Error::Length { rows, labels }) }
}

pub(crate) fn same_width(expected: usize, got: usize) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Width { expected, got }) }
}

/// That every value of `x` is finite.
pub(crate) fn finite(x: ArrayView2<'_, f32>) -> Result<(), Error> {
    match x.outer_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        Some(row) => Err(Error::NotFinite { row }),
        None => Ok(()),
    }
}

/// That a parameter is finite and not below zero.
pub(crate) fn not_negative(name: &'static str, got: f64) -> Result<(), Error> {
    if got.is_finite() && got >= 0.0 {
        return Ok(());
    }
    Err(Error::Parameter { name, expected: "a number not below 0", got })
}

/// That a parameter is finite and above zero.
pub(crate) fn positive(name: &'static str, got: f64) -> Result<(), Error> {
    if got.is_finite() && got > 0.0 {
        return Ok(());
    }
    Err(Error::Parameter { name, expected: "a number above 0", got })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn what_does_not_fit_is_named() {
        let x = Array2::<f32>::zeros((3, 2));
        let classes =
            |y: &'static [u32], n_classes| Labelled { x: x.view(), y: Labels::Classes { y, n_classes } };
        assert_eq!(classes(&[0, 1, 0], 2).classes().unwrap(), (&[0, 1, 0][..], 2));
        let said = |d: Labelled<'_>| d.classes().unwrap_err().to_string();
        assert_eq!(said(classes(&[0, 2, 0], 2)), "row 1: class 2, but there are 2 classes");
        assert_eq!(said(classes(&[0, 2, 0], 3)), "no row of class 1");
        assert_eq!(said(classes(&[0, 0, 0], 1)), "1 class, expected at least 2");
        assert_eq!(said(classes(&[0, 1], 2)), "3 rows but 2 labels");
        let y = Array2::zeros((3, 1));
        let numbers = Labelled { x: x.view(), y: Labels::Numbers(y.view()) };
        assert_eq!(said(numbers), "labels are numbers, expected classes");
        assert!(matches!(finite(array![[1f32], [f32::NAN]].view()), Err(Error::NotFinite { row: 1 })));
    }
}
