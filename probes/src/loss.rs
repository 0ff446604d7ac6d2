//! The objective of logistic regression, with its gradient by hand.

use ndarray::Array1;

use crate::Features;
use crate::lbfgs::Objective;
use crate::linalg::BLOCK;
use crate::linear::softplus;

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
    /// `Σ s p (1 - p)` of each class at the last point, and what the preconditioner takes for it.
    curvature: Vec<f64>,
    reference: Vec<f64>,
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
        let curvature = vec![weights.iter().sum::<f64>() * 0.25; k];
        Self { x, y, weights, k, price, squares, lambda: 1.0, reference: curvature.clone(), curvature }
    }

    /// Columns of `W`.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Zero weights, with the bias at the (weighted) class frequencies: the minimum for an infinite λ.
    pub(crate) fn start(&mut self) -> Vec<f64> {
        let mut mass = vec![0.0; self.k.max(2)];
        self.y.iter().zip(&self.weights).for_each(|(class, s)| mass[*class as usize] += s);
        let total: f64 = mass.iter().sum();
        let mut at = vec![0.0; self.x.cols() * self.k];
        if self.k == 1 {
            at.push((mass[1] / mass[0]).ln());
            self.curvature = vec![mass[0] * mass[1] / total];
        } else {
            let mean = mass.iter().map(|m| m.ln()).sum::<f64>() / self.k as f64;
            at.extend(mass.iter().map(|m| m.ln() - mean));
            self.curvature = mass.iter().map(|m| m * (1.0 - m / total)).collect();
        }
        at
    }

    /// Sets λ, and takes the curvature at the last point for the preconditioner.
    pub(crate) fn set_lambda(&mut self, lambda: f64) {
        self.lambda = lambda;
        self.reference.clone_from(&self.curvature);
    }

    /// Loss of a block from its values, which become `s (p - y)`; its curvature is added.
    fn residuals(&mut self, from: usize, values: &mut [f32], bias: &[f64]) -> f64 {
        let mut loss = 0.0;
        for (i, row) in values.chunks_exact_mut(self.k).enumerate() {
            let (class, s) = (self.y[from + i] as usize, self.weights[from + i]);
            loss += s * if self.k == 1 {
                binary(row, bias[0], class == 1, s, &mut self.curvature)
            } else {
                softmax(row, bias, class, s, &mut self.curvature)
            };
        }
        loss
    }
}

impl<F: Features> Objective for Loss<'_, F> {
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let split = self.x.cols() * self.k;
        let (w, bias) = x.split_at(split);
        let narrow: Vec<f32> = w.iter().map(|w| *w as f32).collect();
        gradient.fill(0.0);
        self.curvature.fill(0.0);
        let mut buffer = vec![0f32; BLOCK * self.k];
        let mut value = 0.0;
        for from in (0..self.x.rows()).step_by(BLOCK) {
            let to = (from + BLOCK).min(self.x.rows());
            let values = &mut buffer[..(to - from) * self.k];
            self.x.times(from..to, &narrow, self.k, values);
            value += self.residuals(from, values, bias);
            let (gw, gb) = gradient.split_at_mut(split);
            self.x.add_transposed(from..to, values, self.k, gw);
            for row in values.chunks_exact(self.k) {
                gb.iter_mut().zip(row).for_each(|(g, r)| *g += f64::from(*r));
            }
        }
        for ((w, g), q) in w.chunks_exact(self.k).zip(gradient.chunks_exact_mut(self.k)).zip(self.price) {
            for (w, g) in w.iter().zip(g) {
                value += 0.5 * self.lambda * q * w * w;
                *g += self.lambda * q * w;
            }
        }
        value
    }

    /// By the diagonal of the Hessian, as if every row had the mean curvature.
    fn precondition(&self, v: &mut [f64]) {
        let (w, bias) = v.split_at_mut(self.x.cols() * self.k);
        for ((v, square), q) in w.chunks_exact_mut(self.k).zip(&self.squares).zip(self.price) {
            for (v, c) in v.iter_mut().zip(&self.reference) {
                *v /= c * square + self.lambda * q;
            }
        }
        bias.iter_mut().zip(&self.reference).for_each(|(v, c)| *v /= c.max(f64::MIN_POSITIVE));
    }
}

/// Loss of one row of two classes; its value becomes `s (p - y)`.
fn binary(row: &mut [f32], bias: f64, second: bool, s: f64, curvature: &mut [f64]) -> f64 {
    let z = f64::from(row[0]) + bias;
    let against = if second { -z } else { z }; // large when wrong
    let e = (-against.abs()).exp();
    let wrong = if against >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    row[0] = (s * if second { -wrong } else { wrong }) as f32;
    curvature[0] += s * wrong * (1.0 - wrong);
    softplus(against)
}

/// Loss of one row of `k` classes; its values become `s (p - y)`.
fn softmax(row: &mut [f32], bias: &[f64], class: usize, s: f64, curvature: &mut [f64]) -> f64 {
    let mut largest = f64::NEG_INFINITY;
    for (v, b) in row.iter_mut().zip(bias) {
        *v += *b as f32;
        largest = largest.max(f64::from(*v));
    }
    // Relative to the true class, so that a small loss keeps its digits: log(1 + Σ exp(v_j - v_class)).
    let mine = f64::from(row[class]);
    let (mut others, at) = (0.0, (mine - largest).exp());
    for (j, v) in row.iter_mut().enumerate() {
        let e = (f64::from(*v) - largest).exp();
        others += if j == class { 0.0 } else { e };
        *v = e as f32;
    }
    let total = others + at;
    for (j, (v, c)) in row.iter_mut().zip(curvature).enumerate() {
        let p = f64::from(*v) / total;
        *c += s * p * (1.0 - p);
        *v = (s * if j == class { -others / total } else { p }) as f32;
    }
    if at == 1.0 { others.ln_1p() } else { total.ln() - (mine - largest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dense;
    use crate::draw::tests::normal;

    #[test]
    fn one_row_by_hand() {
        let mut c = [0.0; 3];
        // z = log 3: p = 3/4; the second class costs log(4/3), the first log 4
        let mut row = [3f32.ln()];
        assert!((binary(&mut row, 0.0, true, 2.0, &mut c) - (4f64 / 3.0).ln()).abs() < 1e-7);
        assert!((row[0] + 0.5).abs() < 1e-6 && (c[0] - 0.375).abs() < 1e-6); // 2 (3/4 - 1), 2 · 3/16
        // p = (1, 2, 1) / 4
        let (mut row, mut c) = ([0f32, 2f32.ln(), 0.0], [0.0; 3]);
        assert!((softmax(&mut row, &[0.0; 3], 1, 1.0, &mut c) - 2f64.ln()).abs() < 1e-7);
        assert!(row.iter().zip([0.25, -0.5, 0.25]).all(|(a, b)| (a - b).abs() < 1e-6));
        // A loss far below the rounding of f32 keeps its digits: log(1 + 2 e^-30).
        let small = softmax(&mut [30f32, 0., 0.], &[0.0; 3], 0, 1.0, &mut c);
        assert!((small / (2.0 * (-30f64).exp()) - 1.0).abs() < 1e-9);
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
            loss.set_lambda(3.0);
            let at: Vec<f64> = (0..5 * loss.k()).map(|i| (i as f64).sin()).collect();
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
