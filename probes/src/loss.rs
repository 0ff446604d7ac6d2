//! The objective of logistic regression, with its gradient by hand.

use multiversion::multiversion;
use ndarray::{Array1, Array2};

use crate::hessian::{Factor, Hessian};
use crate::lbfgs::Objective;
use crate::linalg::{BLOCK, eigh, product, rows, rows_mut};
use crate::linear::softplus;
use crate::{Error, Features};

/// `J(W, b) = Σᵢ sᵢ loss(xᵢ W + b, yᵢ) + ½ λ Σ q W²`.
///
/// Two classes have one column and the logistic loss, more have a column each and the softmax cross-entropy. The
/// parameters are `W (d, k)` row by row, then `b (k,)`.
pub(crate) struct Loss<'a, F> {
    x: &'a F,
    y: &'a [u32],
    /// Weight of each row `s`.
    weights: Vec<f64>,
    k: usize,
    /// Price of each column of `x`, `q (d,)`.
    price: &'a Array1<f64>,
    /// `Σ x²` of each column, per row `(d,)`.
    squares: Array1<f64>,
    lambda: f64,
    /// `A = Σ s (diag(p) - p pᵀ)` `(k, k)` where λ was set: eigenvalues, and eigenvectors as rows.
    curvature: (Array1<f64>, Array2<f64>),
    /// The exact Hessian near here, instead.
    exact: Option<Factor>,
}

impl<'a, F: Features> Loss<'a, F> {
    pub(crate) fn new(
        x: &'a F,
        y: &'a [u32],
        n_classes: usize,
        weights: Vec<f64>,
        price: &'a Array1<f64>,
    ) -> Self {
        let k = if n_classes == 2 { 1 } else { n_classes };
        let squares = x.squares() / (x.rows() as f64).max(1.0);
        Self {
            x,
            y,
            weights,
            k,
            price,
            squares,
            lambda: 1.0,
            curvature: (Array1::ones(k), Array2::eye(k)),
            exact: None,
        }
    }

    /// Columns of `W`.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Zero weights, with the bias at the (weighted) class frequencies: the minimum for an infinite λ.
    pub(crate) fn start(&self) -> Vec<f64> {
        let mut mass = vec![0.0; self.k.max(2)];
        self.y.iter().zip(&self.weights).for_each(|(class, s)| mass[*class as usize] += s);
        let mut at = vec![0.0; self.x.cols() * self.k];
        if self.k == 1 {
            at.push((mass[1] / mass[0]).ln());
        } else {
            let mean = mass.iter().map(|m| m.ln()).sum::<f64>() / self.k as f64;
            at.extend(mass.iter().map(|m| m.ln() - mean));
        }
        at
    }

    /// Sets λ, and the preconditioner by the curvature at `at`.
    pub(crate) fn set_lambda(&mut self, lambda: f64, at: &[f64]) -> Result<(), Error> {
        let (k, mut sum) = (self.k, Array2::<f64>::zeros((self.k, self.k)));
        let mut part = vec![0f32; k * k];
        self.blocks(at, |from, values, buffer| {
            probabilities(values, k, buffer);
            for (row, s) in buffer.chunks_exact_mut(k).zip(&self.weights[from..]) {
                row.iter().enumerate().for_each(|(j, p)| sum[[j, j]] += s * f64::from(*p));
                for p in row.iter_mut() {
                    *p *= s.sqrt() as f32;
                }
            }
            let p = rows(buffer, buffer.len() / k, k);
            product(rows_mut(&mut part, k, k), true, p.transpose(), p);
            sum.iter_mut().zip(&part).for_each(|(s, p)| *s -= f64::from(*p));
        });
        (self.lambda, self.curvature, self.exact) = (lambda, eigh(&sum)?, None);
        Ok(())
    }

    /// Takes the exact Hessian at `at` for the preconditioner, if it is small enough and can be factorised.
    pub(crate) fn be_exact(&mut self, at: &[f64]) -> bool {
        let (d, k) = (self.x.cols(), self.k);
        let Some(mut hessian) = Hessian::new(d, k) else { return false };
        let identity: Vec<f64> = Array2::eye(d).into_iter().collect();
        let mut x = vec![0.0; BLOCK * d];
        self.blocks(at, |from, values, buffer| {
            probabilities(values, k, buffer);
            let m = values.len() / k;
            self.x.times(from..from + m, &identity, d, &mut x[..m * d]);
            hessian.add(&x[..m * d], &self.weights[from..from + m], buffer);
        });
        let gauge = self.weights.iter().sum::<f64>() / (k * k) as f64;
        self.exact = hessian.factor(&(self.price * self.lambda), &self.squares, gauge);
        self.exact.is_some()
    }

    /// By how much the diagonal of the Hessian becomes larger when λ becomes `lambda`.
    pub(crate) fn penalty_change(&self, lambda: f64) -> Vec<f64> {
        let each = self.price.iter().flat_map(|q| std::iter::repeat_n((lambda - self.lambda) * q, self.k));
        each.chain(vec![0.0; self.k]).collect()
    }

    /// Calls `f` with each block's first row, its values `x W + b`, and as many f32 to write to.
    fn blocks(&self, at: &[f64], mut f: impl FnMut(usize, &mut [f64], &mut [f32])) {
        let (w, bias) = at.split_at(self.x.cols() * self.k);
        let (mut values, mut buffer) = (vec![0f64; BLOCK * self.k], vec![0f32; BLOCK * self.k]);
        for from in (0..self.x.rows()).step_by(BLOCK) {
            let to = (from + BLOCK).min(self.x.rows());
            let len = (to - from) * self.k;
            self.x.times(from..to, w, self.k, &mut values[..len]);
            for row in values[..len].chunks_exact_mut(self.k) {
                row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
            }
            f(from, &mut values[..len], &mut buffer[..len]);
        }
    }

    /// Loss of a block from its values; writes `s (p - y)`.
    fn residuals(&self, from: usize, values: &mut [f64], out: &mut [f32]) -> f64 {
        let (k, mut sum) = (self.k, 0.0);
        let labels = self.y[from..].iter().zip(&self.weights[from..]);
        if k == 1 {
            let each = values.iter().zip(out).zip(labels);
            return each.map(|((v, out), (y, s))| s * binary(*v, *y == 1, *s, out)).sum();
        }
        exponentials(values, k, out);
        for ((row, out), (y, s)) in values.chunks_exact(k).zip(out.chunks_exact_mut(k)).zip(labels) {
            sum += s * softmax(out, *y as usize, row[*y as usize], *s as f32);
        }
        sum
    }
}

impl<F: Features> Objective for Loss<'_, F> {
    fn evaluate(&mut self, at: &[f64], gradient: &mut [f64]) -> f64 {
        let (k, mut value) = (self.k, 0.0);
        gradient.fill(0.0);
        let (gw, gb) = gradient.split_at_mut(self.x.cols() * k);
        self.blocks(at, |from, values, residuals| {
            value += self.residuals(from, values, residuals);
            self.x.add_transposed(from..from + values.len() / k, residuals, k, gw);
            for row in residuals.chunks_exact(k) {
                gb.iter_mut().zip(row).for_each(|(g, r)| *g += f64::from(*r));
            }
        });
        for ((w, g), q) in at.chunks_exact(k).zip(gw.chunks_exact_mut(k)).zip(self.price) {
            for (w, g) in w.iter().zip(g) {
                value += 0.5 * self.lambda * q * w * w;
                *g += self.lambda * q * w;
            }
        }
        value
    }

    /// By the exact Hessian, or by `A ⊗ diag(Σ x² / n) + λ diag(q)`: the Hessian, were the columns independent of each
    /// other and of `p`. What is common to all classes, of which only the penalty knows, stays at 0.
    fn precondition(&self, v: &mut [f64]) {
        self.centre(v);
        match &self.exact {
            Some(exact) => exact.divide(v),
            None => self.divide(v),
        }
        self.centre(v);
    }
}

impl<F: Features> Loss<'_, F> {
    /// Subtracts the mean over the classes.
    fn centre(&self, v: &mut [f64]) {
        for classes in v.chunks_exact_mut(self.k).filter(|_| self.k > 1) {
            let mean = classes.iter().sum::<f64>() / self.k as f64;
            for v in classes.iter_mut() {
                *v -= mean;
            }
        }
    }

    fn divide(&self, v: &mut [f64]) {
        let (k, (values, vectors)) = (self.k, &self.curvature);
        let floor = if k > 1 { 1e-10 * values[k - 1] } else { 0.0 };
        let mut scratch = vec![0.0; k];
        let bias = (&1.0, &0.0);
        for (v, (square, q)) in v.chunks_exact_mut(k).zip(self.squares.iter().zip(self.price).chain([bias])) {
            scratch.fill(0.0);
            for (u, a) in vectors.outer_iter().zip(values).filter(|(_, a)| **a > floor) {
                let along =
                    u.iter().zip(v.iter()).map(|(u, v)| u * v).sum::<f64>() / (a * square + self.lambda * q);
                scratch.iter_mut().zip(u).for_each(|(s, u)| *s += along * u);
            }
            v.copy_from_slice(&scratch);
        }
    }
}

/// Probabilities of values, row by row.
fn probabilities(values: &mut [f64], k: usize, out: &mut [f32]) {
    if k == 1 {
        out.iter_mut().zip(values).for_each(|(p, v)| *p = (1.0 / (1.0 + (-*v).exp())) as f32);
        return;
    }
    exponentials(values, k, out);
    for row in out.chunks_exact_mut(k) {
        let total: f32 = row.iter().sum();
        for v in row.iter_mut() {
            *v /= total;
        }
    }
}

/// Loss of one row of two classes; writes `s (p - y)`.
fn binary(z: f64, second: bool, s: f64, out: &mut f32) -> f64 {
    let against = if second { -z } else { z }; // large when wrong
    let e = (-against.abs()).exp();
    let wrong = if against >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    *out = (s * if second { -wrong } else { wrong }) as f32;
    softplus(against)
}

/// Loss of one row of `k` classes, from the exponentials of its values less the largest, and that value of its own
/// class; they become `s (p - y)`. A small loss keeps its digits: `log(1 + Σ exp(v_j - v_class))`.
fn softmax(row: &mut [f32], class: usize, mine: f64, s: f32) -> f64 {
    let at = row[class];
    row[class] = 0.0;
    let others = row.iter().sum::<f32>();
    let total = others + at;
    let scale = s / total;
    for v in row.iter_mut() {
        *v *= scale;
    }
    row[class] = -others * scale;
    if mine == 0.0 { f64::from(others).ln_1p() } else { f64::from(total).ln() - mine }
}

/// Subtracts the largest of each row from its values, and writes their `exp`, to 1e-7 relative.
///
/// Without branches so that it is vectorised: the polynomial of Cephes' `expf` for the fraction of a power of two.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
#[allow(clippy::excessive_precision)] // Cephes' split of ln 2
fn exponentials(values: &mut [f64], k: usize, out: &mut [f32]) {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer, in the low bits
    for row in values.chunks_exact_mut(k) {
        let largest = row.iter().fold(f64::NEG_INFINITY, |a, v| if *v > a { *v } else { a });
        for v in row.iter_mut() {
            *v -= largest;
        }
    }
    for (out, v) in out.iter_mut().zip(values.iter()) {
        let x = *v as f32;
        let x = if x < -87.0 { -87.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + SHIFT;
        let whole = shifted - SHIFT;
        let r = x - whole * 0.693_359_375 - whole * -2.121_944_4e-4;
        let p = 1.987_569_2e-4 * r + 1.398_2e-3;
        let p = ((((p * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5) * r * r
            + r
            + 1.0;
        *out = p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dense;
    use crate::draw::tests::normal;

    #[test]
    fn one_row_by_hand() {
        // z = log 3: p = 3/4; the second class costs log(4/3)
        let mut out = 0.0;
        assert!((binary(3f64.ln(), true, 2.0, &mut out) - (4f64 / 3.0).ln()).abs() < 1e-12);
        assert!((out + 0.5).abs() < 1e-6); // 2 (3/4 - 1)
        // p = (1, 2, 1) / 4
        let mut row = [0.5f32, 1.0, 0.5];
        assert!((softmax(&mut row, 1, 0.0, 1.0) - 2f64.ln()).abs() < 1e-7);
        assert!(row.iter().zip([0.25, -0.5, 0.25]).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!((softmax(&mut [0.5f32, 1.0, 0.5], 0, -2f64.ln(), 1.0) - 4f64.ln()).abs() < 1e-7);
        // A loss far below the rounding of f32 keeps its digits: log(1 + 2 e^-30).
        let e = (-30f32).exp();
        assert!((softmax(&mut [1.0, e, e], 0, 0.0, 1.0) / (2.0 * (-30f64).exp()) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn exponentials_are_close() {
        // The largest of each row is 5, the others are down to 87 below.
        let x: Vec<f64> = (0..=8700).flat_map(|i| [5.0, 5.0 - f64::from(i) * 0.01]).collect();
        let (mut values, mut found) = (x.clone(), vec![0f32; x.len()]);
        exponentials(&mut values, 2, &mut found);
        for (x, found) in x.iter().zip(found) {
            let off = f64::from(found) / (x - 5.0).exp() - 1.0;
            assert!(off.abs() < 2e-7 + 6e-8 * (x - 5.0).abs(), "{x} {found}"); // the rounding of x to f32 is the last part
        }
    }

    #[test]
    fn the_preconditioner_inverts_the_hessian_of_white_columns() {
        // One column of ones: the Hessian of its weights is A + λ q, with A = n (diag(p) - p pᵀ) at zero weights.
        let x = Array2::<f32>::ones((30, 1));
        let (dense, price) = (Dense::new(x.view()).unwrap(), Array1::from(vec![2.0]));
        let y: Vec<u32> = (0..30).map(|i| u32::from(i >= 5) + u32::from(i >= 15)).collect();
        let mut loss = Loss::new(&dense, &y, 3, vec![1.0; 30], &price);
        let start = loss.start();
        loss.set_lambda(3.0, &start).unwrap();
        let (w, n): ([f64; 3], [f64; 3]) = ([1.0, 2.0, -3.0], [5.0, 10.0, 15.0]);
        let mean: f64 = w.iter().zip(n).map(|(w, n)| w * n / 30.0).sum();
        let mut v: Vec<f64> =
            w.iter().zip(n).map(|(w, n)| n * (w - mean) + 6.0 * w).chain([0.0; 3]).collect();
        loss.precondition(&mut v);
        assert!(v.iter().zip(w).all(|(a, b)| (a - b).abs() < 1e-5), "{v:?}");
    }

    #[test]
    fn the_exact_hessian_is_the_slope_of_the_gradient() {
        let x = normal(300, 3, 1);
        let (dense, price) = (Dense::new(x.view()).unwrap(), Array1::from(vec![1.0, 2.0, 3.0]));
        for n_classes in [2, 4] {
            let y: Vec<u32> = (0..300u32).map(|i| (i * 7 + i / 5) % n_classes).collect();
            let mut loss = Loss::new(&dense, &y, n_classes as usize, vec![1.5; 300], &price);
            let k = loss.k();
            // A step that is not common to all classes; its change of gradient, divided by the Hessian, is the step.
            let at: Vec<f64> = (0..4 * k).map(|i| (i as f64).sin()).collect();
            let mut step: Vec<f64> = (0..4 * k).map(|i| (i as f64 * 2.7).cos()).collect();
            for class in step.chunks_exact_mut(k).filter(|_| k > 1) {
                let mean = class.iter().sum::<f64>() / k as f64;
                for v in class.iter_mut() {
                    *v -= mean;
                }
            }
            loss.set_lambda(3.0, &at).unwrap();
            let mut slope = |by: f64| {
                let moved: Vec<f64> = at.iter().zip(&step).map(|(a, s)| a + by * s).collect();
                let mut gradient = vec![0.0; at.len()];
                loss.evaluate(&moved, &mut gradient);
                gradient
            };
            let (up, down) = (slope(1e-2), slope(-1e-2));
            let mut change: Vec<f64> = up.iter().zip(down).map(|(u, d)| (u - d) / 2e-2).collect();
            assert!(loss.be_exact(&at));
            loss.precondition(&mut change);
            assert!(change.iter().zip(&step).all(|(a, b)| (a - b).abs() < 2e-3), "{change:?} {step:?}");
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let x = normal(300, 4, 1);
        let dense = Dense::new(x.view()).unwrap();
        let price = Array1::from(vec![1.0, 2.0, 3.0, 4.0]);
        for n_classes in [2, 3] {
            let y: Vec<u32> = (0..300u32).map(|i| (i * 7 + i / 5) % n_classes).collect();
            let weights = (0..300u32).map(|i| 1.0 + f64::from(i % 3)).collect();
            let mut loss = Loss::new(&dense, &y, n_classes as usize, weights, &price);
            let at: Vec<f64> = (0..5 * loss.k()).map(|i| (i as f64).sin()).collect();
            loss.set_lambda(3.0, &at).unwrap();
            let mut gradient = vec![0.0; at.len()];
            loss.evaluate(&at, &mut gradient);
            for i in 0..at.len() {
                let mut value = |by: f64| {
                    let mut moved = at.clone();
                    moved[i] += by;
                    loss.evaluate(&moved, &mut vec![0.0; at.len()])
                };
                let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
                assert!(
                    (slope - gradient[i]).abs() < 2e-4 * (1.0 + slope.abs()),
                    "{i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }
}
