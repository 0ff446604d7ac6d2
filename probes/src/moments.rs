//! Sums from which closed-form probes are fitted, in one pass over any number of rows.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::labels::{counts, every_class, finite, same_rows, same_width};
use crate::linalg::{BLOCK, add_gram, mirror, of_mut, product, rows};
use crate::{Error, Labelled, Labels};

/// Sums over the labels of [`Moments`]; `x` is less the origin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LabelSums {
    /// Rows without labels.
    None,
    /// A class per row.
    Classes {
        /// Rows of each class `(k,)`.
        counts: Vec<u64>,
        /// `Σ x` of each class `(k, d)`.
        sums: Array2<f64>,
    },
    /// Numbers per row.
    Numbers {
        /// `Σ y` `(k,)`
        sum: Array1<f64>,
        /// `Σ y²` `(k,)`
        square: Array1<f64>,
        /// `Σ x yᵀ` `(d, k)`
        cross: Array2<f64>,
    },
}

/// `n`, `Σ x`, `Σ x xᵀ`, and by class `n`, `Σ x`, or of numbers `Σ y`, `Σ y²`, `Σ x yᵀ`, in f64.
///
/// Rows (not their numbers) are taken less the first one, so that a mean far from 0 costs no digits, and summed in
/// blocks of 256 in the order in which they come, so that the batches they come in change nothing, not a bit. Shards
/// are moved to one origin and added: counts are exact in any order, sums agree to the rounding of a few f64 operations
/// a shard (merge in the order of shards for the same bits).
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n: u64,
    /// The first row; until then 0.
    pub(crate) origin: Array1<f64>,
    pub(crate) sum: Array1<f64>,
    pub(crate) target: LabelSums,
    /// Lower half.
    gram: Array2<f64>,
    /// Rows not yet in `gram`, and their numbers, not yet in `cross`.
    pending: Vec<f64>,
    pending_y: Vec<f64>,
}

impl Moments {
    /// Of no rows yet, of width `d`, without labels.
    pub fn new(d: usize) -> Self {
        let (sum, gram) = (Array1::zeros(d), Array2::zeros((d, d)));
        Self {
            n: 0,
            origin: sum.clone(),
            sum,
            target: LabelSums::None,
            gram,
            pending: Vec::new(),
            pending_y: Vec::new(),
        }
    }

    /// Of no rows yet, of width `d`, in `n_classes` classes.
    pub fn of_classes(d: usize, n_classes: usize) -> Self {
        let target = LabelSums::Classes { counts: vec![0; n_classes], sums: Array2::zeros((n_classes, d)) };
        Self { target, ..Self::new(d) }
    }

    /// Of no rows yet, of width `d`, with `k` numbers each.
    pub fn of_numbers(d: usize, k: usize) -> Self {
        let target = LabelSums::Numbers {
            sum: Array1::zeros(k),
            square: Array1::zeros(k),
            cross: Array2::zeros((d, k)),
        };
        Self { target, ..Self::new(d) }
    }

    /// Of labelled rows.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn of(data: &Labelled<'_>) -> Result<Self, Error> {
        let d = data.x.ncols();
        let mut moments = match data.y {
            Labels::Classes { n_classes, .. } => Self::of_classes(d, n_classes),
            Labels::Numbers(y) => Self::of_numbers(d, y.ncols()),
        };
        moments.add(data.x, Some(&data.y))?;
        Ok(moments)
    }

    /// Adds a batch of rows `(m, d)` with their labels, which must be there if this has a target.
    ///
    /// # Errors
    /// When widths, kinds or numbers of rows differ, a label is no class, or a value is not finite; then nothing is
    /// added.
    pub fn add(&mut self, x: ArrayView2<'_, f32>, y: Option<&Labels<'_>>) -> Result<(), Error> {
        same_width(self.d(), x.ncols())?;
        finite(x)?;
        let first = match x.outer_iter().next() {
            Some(row) if self.n == 0 => row.mapv(f64::from),
            _ => self.origin.clone(),
        };
        self.add_labels(x, y, &first)?;
        self.origin = first;
        for (i, row) in x.outer_iter().enumerate() {
            let at = self.pending.len();
            self.pending.extend(row.iter().zip(&self.origin).map(|(v, o)| f64::from(*v) - o));
            self.sum.iter_mut().zip(&self.pending[at..]).for_each(|(s, v)| *s += v);
            if let Some(Labels::Numbers(y)) = y {
                self.pending_y.extend(y.row(i));
            }
            self.n += 1;
            if self.pending.len() == BLOCK * self.d() {
                self.flush();
            }
        }
        Ok(())
    }

    fn add_labels(
        &mut self,
        x: ArrayView2<'_, f32>,
        y: Option<&Labels<'_>>,
        origin: &Array1<f64>,
    ) -> Result<(), Error> {
        if let Some(y) = y {
            same_rows(x.nrows(), y.len())?;
        }
        match (&mut self.target, y) {
            (LabelSums::None, None) => {}
            (LabelSums::Classes { counts: total, sums }, Some(y @ Labels::Classes { n_classes, .. })) => {
                if *n_classes != total.len() {
                    return Err(Error::Targets { expected: total.len(), got: *n_classes });
                }
                let (y, n_classes) = y.classes()?;
                total.iter_mut().zip(counts(y, n_classes)).for_each(|(t, n)| *t += n);
                for (row, class) in x.outer_iter().zip(y) {
                    let sum = sums.row_mut(*class as usize);
                    Zip::from(sum).and(&row).and(origin).for_each(|s, v, o| *s += f64::from(*v) - o);
                }
            }
            (LabelSums::Numbers { sum, square, .. }, Some(Labels::Numbers(y))) => {
                if y.ncols() != sum.len() {
                    return Err(Error::Targets { expected: sum.len(), got: y.ncols() });
                }
                if let Some(row) = y.outer_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
                    return Err(Error::NotFinite { row });
                }
                for row in y.outer_iter() {
                    *sum += &row;
                    square.zip_mut_with(&row, |s, v| *s += v * v);
                }
            }
            (target, y) => {
                let got = y.map_or("absent", |y| {
                    if matches!(y, Labels::Classes { .. }) { "classes" } else { "numbers" }
                });
                return Err(Error::Kind { expected: target.name(), got });
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        let (d, m) = (self.d(), self.pending.len() / self.d().max(1));
        if m == 0 {
            return;
        }
        add_gram(of_mut(&mut self.gram), 1.0, rows(&self.pending, m, d));
        if let LabelSums::Numbers { cross, .. } = &mut self.target {
            let y = rows(&self.pending_y, m, cross.ncols());
            product(of_mut(cross), false, rows(&self.pending, m, d).transpose(), y);
        }
        self.pending.clear();
        self.pending_y.clear();
    }

    /// Sums the rows that wait for a block of 256 to be full: once no more are to come, so that copies need not.
    pub fn settle(&mut self) {
        self.flush();
    }

    /// A copy with every row in its sums.
    pub(crate) fn settled(&self) -> Self {
        let mut copy = self.clone();
        copy.flush();
        copy
    }

    /// A settled copy about another origin: `x` is less `by` more.
    fn moved(&self, origin: &Array1<f64>) -> Self {
        let (mut copy, by) = (self.settled(), origin - &self.origin);
        let n = self.n as f64;
        for (i, mut row) in copy.gram.outer_iter_mut().enumerate() {
            Zip::from(&mut row).and(&self.sum).and(&by).for_each(|g, s, b| {
                *g -= by[i] * s + self.sum[i] * b - n * by[i] * b;
            });
        }
        copy.sum.scaled_add(-n, &by);
        match &mut copy.target {
            LabelSums::None => {}
            LabelSums::Classes { counts, sums } => {
                sums.outer_iter_mut().zip(counts).for_each(|(mut sum, n)| sum.scaled_add(-(*n as f64), &by));
            }
            LabelSums::Numbers { sum, cross, .. } => {
                cross.outer_iter_mut().zip(&by).for_each(|(mut row, b)| row.scaled_add(-b, sum));
            }
        }
        copy.origin.assign(origin);
        copy
    }

    /// Adds the rows of another shard.
    ///
    /// # Errors
    /// When the widths or the kinds of labels differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        self.same_shape(other)?;
        if self.n == 0 {
            self.origin.assign(&other.origin);
        }
        let other = other.moved(&self.origin);
        self.flush();
        self.target.add(&other.target);
        self.n += other.n;
        self.sum += &other.sum;
        self.gram += &other.gram;
        Ok(())
    }

    /// The moments of the rows that are not in `part`, all of whose rows are here. Sums agree with those of the other
    /// rows alone to the rounding of the sums here.
    ///
    /// # Errors
    /// When the widths, the kinds of labels or their numbers differ, or `part` has more rows.
    pub fn less(&self, part: &Self) -> Result<Self, Error> {
        self.same_shape(part)?;
        let few = Error::Few { expected: part.n as usize, got: self.n as usize };
        let n = self.n.checked_sub(part.n).ok_or(few)?;
        let (mut rest, part) = (self.settled(), part.moved(&self.origin));
        rest.n = n;
        rest.target.less(&part.target);
        rest.sum -= &part.sum;
        rest.gram -= &part.gram;
        Ok(rest)
    }

    fn same_shape(&self, other: &Self) -> Result<(), Error> {
        same_width(self.d(), other.d())?;
        let kinds = (self.target.name(), other.target.name());
        if kinds.0 != kinds.1 {
            return Err(Error::Kind { expected: kinds.0, got: kinds.1 });
        }
        if self.target.width() != other.target.width() {
            return Err(Error::Targets { expected: self.target.width(), got: other.target.width() });
        }
        Ok(())
    }

    /// Number of rows.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Width of a row.
    pub fn d(&self) -> usize {
        self.sum.len()
    }

    /// The mean `(d,)`.
    ///
    /// # Errors
    /// When there is no row.
    pub fn mean(&self) -> Result<Array1<f64>, Error> {
        if self.n == 0 {
            return Err(Error::Few { expected: 1, got: 0 });
        }
        Ok(&self.origin + &(&self.sum / self.n as f64))
    }

    /// Total scatter `Σ (x - μ)(x - μ)ᵀ` `(d, d)`.
    pub fn scatter(&self) -> Array2<f64> {
        let mut scatter = self.settled().gram;
        mirror(&mut scatter);
        less_outer(&mut scatter, &self.sum, (self.n as f64).max(1.0));
        scatter
    }

    /// Rows of each class `(k,)` and means of the classes `(k, d)`.
    ///
    /// # Errors
    /// When the labels are no classes, or a class has no row.
    pub fn classes(&self) -> Result<(&[u64], Array2<f64>), Error> {
        let LabelSums::Classes { counts, sums } = &self.target else {
            return Err(Error::Kind { expected: "classes", got: self.target.name() });
        };
        every_class(counts)?;
        let n = Array1::from_iter(counts.iter().map(|n| *n as f64)).insert_axis(Axis(1));
        Ok((counts, sums / &n + &self.origin))
    }

    /// Within-class scatter `Σ (x - μ_class)(x - μ_class)ᵀ` `(d, d)`.
    ///
    /// # Errors
    /// As [`Self::classes`].
    pub fn within(&self) -> Result<Array2<f64>, Error> {
        let (counts, means) = self.classes()?;
        let mut scatter = self.settled().gram;
        mirror(&mut scatter);
        let (gram, terms) = (scatter.diag().to_owned(), self.n as f64 + counts.len() as f64);
        for (mean, n) in (means - &self.origin).outer_iter().zip(counts) {
            less_outer(&mut scatter, &(&mean * *n as f64), *n as f64);
        }
        // What is left where rows do not vary within classes is rounding, of any sign.
        for (i, gram) in gram.iter().enumerate() {
            if scatter[[i, i]] <= 4.0 * terms * f64::EPSILON * gram {
                scatter.row_mut(i).fill(0.0);
                scatter.column_mut(i).fill(0.0);
            }
        }
        Ok(scatter)
    }

    /// Of number labels, or of classes as one-hot rows: the mean `(k,)` and `Σ (y - ȳ)²` `(k,)`.
    ///
    /// # Errors
    /// When there is no row, or no label.
    pub fn labels(&self) -> Result<(Array1<f64>, Array1<f64>), Error> {
        self.mean()?;
        let n = self.n as f64;
        let (sum, square) = match &self.target {
            LabelSums::None => return Err(Error::Kind { expected: "numbers or classes", got: "absent" }),
            LabelSums::Classes { counts, .. } => {
                let counts = Array1::from_iter(counts.iter().map(|c| *c as f64));
                (counts.clone(), counts)
            }
            LabelSums::Numbers { sum, square, .. } => (sum.clone(), square.clone()),
        };
        let total = square - &(&sum * &sum / n);
        Ok((sum / n, total))
    }

    /// `Σ (x - μ)(y - ȳ)ᵀ` `(d, k)`, of labels as in [`Self::labels`].
    ///
    /// # Errors
    /// As [`Self::labels`].
    pub fn cross(&self) -> Result<Array2<f64>, Error> {
        let (mean, _) = self.labels()?;
        let mut cross = match self.settled().target {
            LabelSums::Numbers { cross, .. } => cross,
            LabelSums::Classes { sums, .. } => sums.reversed_axes().as_standard_layout().into_owned(),
            LabelSums::None => Array2::zeros((self.d(), 0)),
        };
        for (mut row, s) in cross.outer_iter_mut().zip(&self.sum) {
            row.scaled_add(-s, &mean);
        }
        Ok(cross)
    }
}

/// `a -= s sᵀ / n`
fn less_outer(a: &mut Array2<f64>, s: &Array1<f64>, n: f64) {
    for (mut row, si) in a.outer_iter_mut().zip(s) {
        row.scaled_add(-si / n, s);
    }
}

impl LabelSums {
    /// Of the same kind and width.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Classes { counts, sums }, Self::Classes { counts: c, sums: s }) => {
                counts.iter_mut().zip(c).for_each(|(a, b)| *a += b);
                *sums += s;
            }
            (Self::Numbers { sum, square, cross }, Self::Numbers { sum: a, square: b, cross: c }) => {
                *sum += a;
                *square += b;
                *cross += c;
            }
            _ => {}
        }
    }

    /// Takes away what is in [`Self::add`].
    fn less(&mut self, other: &Self) {
        match (self, other) {
            (Self::Classes { counts, sums }, Self::Classes { counts: c, sums: s }) => {
                counts.iter_mut().zip(c).for_each(|(a, b)| *a = a.saturating_sub(*b));
                *sums -= s;
            }
            (Self::Numbers { sum, square, cross }, Self::Numbers { sum: a, square: b, cross: c }) => {
                *sum -= a;
                *square -= b;
                *cross -= c;
            }
            _ => {}
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::None => "absent",
            Self::Classes { .. } => "classes",
            Self::Numbers { .. } => "numbers",
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Classes { counts, .. } => counts.len(),
            Self::Numbers { sum, .. } => sum.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;
    use ndarray::{array, s};

    #[test]
    fn by_hand() {
        // class 0: (1, 2), (3, 4), mean (2, 3); class 1: (5, 0)
        let x = array![[1f32, 2.], [3., 4.], [5., 0.]];
        let y = Labels::Classes { y: &[0, 0, 1], n_classes: 2 };
        let m = Moments::of(&Labelled { x: x.view(), y }).unwrap();
        assert_eq!((m.n(), m.mean().unwrap()), (3, array![3., 2.]));
        assert_eq!(m.scatter(), array![[8., -4.], [-4., 8.]]); // deviations (-2, 0), (0, 2), (2, -2)
        assert_eq!(m.classes().unwrap(), (&[2, 1][..], array![[2., 3.], [5., 0.]]));
        assert_eq!(m.within().unwrap(), array![[2., 2.], [2., 2.]]); // deviations ±(1, 1)
        let y = array![[1., 0.], [2., 0.], [3., -1.]];
        let m = Moments::of(&Labelled { x: x.view(), y: Labels::Numbers(y.view()) }).unwrap();
        // means 2 and -1/3; deviations (-1, 0, 1) and (1, 1, -2) / 3
        let close = |a: Array2<f64>, b: Array2<f64>| assert!((a - b).mapv(f64::abs).sum() < 1e-14);
        let (mean, total) = m.labels().unwrap();
        close(ndarray::stack![Axis(0), mean, total], array![[2., -1. / 3.], [2., 2. / 3.]]);
        close(m.cross().unwrap(), array![[4., -2.], [-2., 2.]]); // x: (-2, 0, 2) and (0, 2, -2)
    }

    #[test]
    fn batches_change_no_bit_and_shards_only_rounding() {
        let (x, y) = (normal(700, 5, 1), normal(700, 2, 2).mapv(f64::from));
        let add = |m: &mut Moments, from: usize, to: usize| {
            m.add(x.slice(s![from..to, ..]), Some(&Labels::Numbers(y.slice(s![from..to, ..])))).unwrap();
        };
        let of = |cuts: &[usize]| {
            let mut m = Moments::of_numbers(5, 2);
            cuts.windows(2).for_each(|c| add(&mut m, c[0], c[1]));
            m
        };
        let whole = of(&[0, 700]);
        assert_eq!(of(&[0, 1, 7, 256, 300, 699, 700]), whole);
        let (first, second) = (of(&[0, 333]), of(&[333, 700]));
        let merged = |a: &Moments, b: &Moments| {
            let mut m = Moments::of_numbers(5, 2);
            m.merge(a).unwrap();
            m.merge(b).unwrap();
            m
        };
        let close = |a: &Moments, b: &Moments| {
            let (x, xy) = (a.scatter() - b.scatter(), a.cross().unwrap() - b.cross().unwrap());
            x.mapv(f64::abs).sum() + xy.mapv(f64::abs).sum() < 1e-9 && a.n() == b.n()
        };
        assert!(close(&merged(&first, &second), &whole) && close(&merged(&second, &first), &whole));
        assert!(
            close(&whole.less(&first).unwrap(), &second)
                && close(&merged(&second, &first).less(&second).unwrap(), &first)
        );
        assert!(matches!(first.less(&whole), Err(Error::Few { expected: 700, got: 333 })));
        let x = x.mapv(f64::from) - whole.mean().unwrap();
        assert!((whole.scatter() - x.t().dot(&x)).mapv(f64::abs).sum() < 1e-9);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = normal(3, 2, 1);
        let mut m = Moments::of_classes(2, 3);
        let classes = |y| Labels::Classes { y, n_classes: 3 };
        let before = m.clone();
        assert!(matches!(
            m.add(x.view(), Some(&classes(&[0, 1, 3]))),
            Err(Error::NoSuchClass { row: 2, .. })
        ));
        assert!(matches!(m.add(x.view(), Some(&classes(&[0, 1]))), Err(Error::Length { .. })));
        assert!(matches!(m.add(x.view(), None), Err(Error::Kind { got: "absent", .. })));
        assert!(matches!(
            m.add(array![[1f32, f32::INFINITY]].view(), Some(&classes(&[0]))),
            Err(Error::NotFinite { .. })
        ));
        let narrow = m.add(array![[1f32]].view(), Some(&classes(&[0])));
        assert!(matches!(narrow, Err(Error::Width { expected: 2, got: 1 })));
        let other = m.merge(&Moments::of_classes(2, 2));
        assert!(matches!(other, Err(Error::Targets { expected: 3, got: 2 })));
        let bare = m.merge(&Moments::new(2));
        assert!(matches!(bare, Err(Error::Kind { expected: "classes", got: "absent" })));
        assert!(matches!(m.mean(), Err(Error::Few { expected: 1, got: 0 })));
        assert!(matches!(m.classes(), Err(Error::LacksClass { .. })));
        assert_eq!(m, before);
    }
}
