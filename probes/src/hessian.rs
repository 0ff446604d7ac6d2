//! The exact Hessian of logistic regression, where it is small enough to be factorised.

use faer::Side;
use faer::linalg::solvers::Llt;
use faer::prelude::Solve;
use ndarray::{Array1, Array2};

use crate::linalg::{add_gram, of, of_mut, rows, rows_mut};

/// Most parameters: 32 MB of Hessian.
const LARGEST: usize = 2048;

/// `Σ s (diag(p) - p pᵀ) ⊗ x xᵀ` with a 1 after each `x`, class by class `(k (d + 1), k (d + 1))`, lower half.
pub(crate) struct Hessian {
    h: Array2<f64>,
    k: usize,
    scaled: Vec<f64>,
}

/// Its Cholesky factor.
pub(crate) struct Factor {
    llt: Llt<f64>,
    k: usize,
}

impl Hessian {
    /// Of no rows yet; `None` when it would be too large.
    pub(crate) fn new(d: usize, k: usize) -> Option<Self> {
        let size = (d + 1) * k;
        (size <= LARGEST).then(|| Self { h: Array2::zeros((size, size)), k, scaled: Vec::new() })
    }

    /// How many passes over the rows cost about as much, by counts of operations and the speeds of their kinds.
    pub(crate) fn passes(d: usize, k: usize) -> Option<usize> {
        let size = (d + 1) * k;
        (size <= LARGEST).then_some((size / 12).max(16))
    }

    /// Adds a block of rows `x` `(m, d)` of weights `s` and probabilities `p` `(m, k)`.
    pub(crate) fn add(&mut self, x: &[f64], s: &[f64], p: &[f32]) {
        let (k, m) = (self.k, s.len());
        let (d, size) = (x.len() / m, self.h.nrows());
        for class in 0..k {
            let curvature = |p: f64| if k == 1 { p * (1.0 - p) } else { p };
            self.scaled.clear();
            for (i, s) in s.iter().enumerate() {
                let root = (s * curvature(f64::from(p[i * k + class]))).sqrt();
                self.scaled.extend(x[i * d..(i + 1) * d].iter().chain([&1.0]).map(|v| root * v));
            }
            let (at, wide) = (class * (d + 1), d + 1);
            let own = of_mut(&mut self.h).submatrix_mut(at, at, wide, wide);
            add_gram(own, 1.0, rows(&self.scaled, m, wide));
        }
        if k == 1 {
            return;
        }
        self.scaled.clear();
        for (i, s) in s.iter().enumerate() {
            for p in &p[i * k..(i + 1) * k] {
                let factor = s.sqrt() * f64::from(*p);
                self.scaled.extend(x[i * d..(i + 1) * d].iter().chain([&1.0]).map(|v| factor * v));
            }
        }
        add_gram(of_mut(&mut self.h), -1.0, rows(&self.scaled, m, size));
    }

    /// With the penalty of each column added; `None` when it is singular up to rounding.
    ///
    /// What is common to all classes has no curvature but the penalty's. It never moves, so it may have any: `gauge`
    /// times `squares`.
    pub(crate) fn factor(
        mut self,
        penalty: &Array1<f64>,
        squares: &Array1<f64>,
        gauge: f64,
    ) -> Option<Factor> {
        let (k, d) = (self.k, penalty.len());
        for m in 0..=d {
            let square = if m < d { squares[m] } else { 1.0 };
            for a in 0..k {
                let i = a * (d + 1) + m;
                self.h[[i, i]] += if m < d { penalty[m] } else { 0.0 };
                for b in (0..=a).filter(|_| k > 1) {
                    self.h[[i, b * (d + 1) + m]] += gauge * square;
                }
            }
        }
        let llt = of(&self.h).llt(Side::Lower).ok()?;
        Some(Factor { llt, k })
    }
}

impl Factor {
    /// Divides `v`, column by column of `x` and then the bias, `k` each.
    pub(crate) fn divide(&self, v: &mut [f64]) {
        let (k, wide) = (self.k, v.len() / self.k);
        let mut by_class: Vec<f64> = (0..v.len()).map(|i| v[i % wide * k + i / wide]).collect();
        let n = by_class.len();
        self.llt.solve_in_place(rows_mut(&mut by_class, n, 1));
        by_class.iter().enumerate().for_each(|(i, s)| v[i % wide * k + i / wide] = *s);
    }
}
