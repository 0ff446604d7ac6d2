//! Logistic regression with an L2 penalty, of two classes or more.

use ndarray::{Array1, Array2, ArrayView2};

use crate::hessian::Hessian;
use crate::labels::{counts, positive, same_rows};
use crate::lbfgs::{Memory, Stop, minimise};
use crate::loss::Loss;
use crate::{Convergence, Error, Features, Fit, Labelled, Labels, Linear, Link, Probe, Whitened};

/// Minimises `Σᵢ sᵢ loss(xᵢ Wᵀ + b, yᵢ) + ½ λ |W|²`, with a bias that is not penalised.
///
/// This is scikit-learn's `LogisticRegression(C=1 / λ)`: two classes have one direction and the logistic loss, more
/// have a direction each and the softmax cross-entropy. The weights `sᵢ` are 1, or `n / (k n_class)` when balanced
/// (`class_weight="balanced"`). Biases of several classes, which are free up to a constant, sum to 0.
///
/// The minimum is found by L-BFGS in the coordinates of [`Whitened`] rows, in which the Hessian is near the identity
/// whatever the spectrum of the activations; when that does not do and there are few parameters (`k (d + 1)` up to
/// 2048), with their exact Hessian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logistic {
    /// λ of [`Fit::fit`], above 0.
    pub l2: f64,
    /// Whether [`Fit::fit`] z-scores the rows; the probe is of raw rows in either case.
    pub standardise: bool,
    /// Whether every class has the same weight.
    pub balanced: bool,
    /// Largest [`Convergence::gap`] at the end.
    pub tolerance: f64,
    /// Most iterations for each λ.
    pub max_iterations: usize,
}

impl Default for Logistic {
    fn default() -> Self {
        Self { l2: 1.0, standardise: true, balanced: false, tolerance: 1e-12, max_iterations: 1000 }
    }
}

/// A fitted logistic regression.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticProbe {
    /// One direction for two classes, else one for each.
    pub linear: Linear,
    /// Its λ.
    pub l2: f64,
    /// How the optimisation ended; look at `converged`.
    pub convergence: Convergence,
}

impl Probe for LogisticProbe {
    /// Log-probabilities.
    fn scores(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>, Error> {
        self.linear.scores(x)
    }
}

impl Fit for Logistic {
    type Fitted = LogisticProbe;

    /// As [`Logistic::path`] at one λ, but not to converge is an error.
    fn fit(&self, data: &Labelled<'_>) -> Result<LogisticProbe, Error> {
        data.classes()?;
        let rows = Whitened::new(data.x, self.standardise)?;
        let probe = self.path(&rows, &data.y, &[self.l2])?.remove(0);
        let Convergence { iterations, gap, converged, .. } = probe.convergence;
        if converged {
            Ok(probe)
        } else {
            Err(Error::NotConverged { iterations, gap, tolerance: self.tolerance })
        }
    }
}

impl Logistic {
    /// A probe for each λ of `l2`, in their order. Each begins where the next larger one ended.
    ///
    /// # Errors
    /// When the labels do not suit the rows, a class has no row, or a parameter is out of range.
    pub fn path(&self, rows: &Whitened, y: &Labels<'_>, l2: &[f64]) -> Result<Vec<LogisticProbe>, Error> {
        let x = crate::Dense::new(rows.z.view())?;
        let price = rows.factor.mapv(|f| f * f);
        let solved = self.solve(&x, y, &price, l2)?;
        let raw = |mut s: Solved| {
            for (mut w, f) in s.weights.outer_iter_mut().zip(&rows.factor) {
                w *= *f;
            }
            let weights = rows.spectrum.raw(&s.weights);
            let bias = std::mem::take(&mut s.bias) - weights.dot(&rows.spectrum.standardise.mean);
            s.probe(weights, bias)
        };
        Ok(solved.into_iter().map(raw).collect())
    }

    /// As [`Logistic::path`], on columns as they are: for sparse counts, which whitening would fill.
    ///
    /// # Errors
    /// As [`Logistic::path`].
    pub fn path_plain<F: Features>(
        &self,
        x: &F,
        y: &Labels<'_>,
        l2: &[f64],
    ) -> Result<Vec<LogisticProbe>, Error> {
        let solved = self.solve(x, y, &Array1::ones(x.cols()), l2)?;
        let raw = |mut s: Solved| {
            let (weights, bias) = (std::mem::take(&mut s.weights), std::mem::take(&mut s.bias));
            s.probe(weights.reversed_axes().as_standard_layout().into_owned(), bias)
        };
        Ok(solved.into_iter().map(raw).collect())
    }

    fn solve<F: Features>(
        &self,
        x: &F,
        y: &Labels<'_>,
        price: &Array1<f64>,
        l2: &[f64],
    ) -> Result<Vec<Solved>, Error> {
        let (y, n_classes) = y.classes()?;
        same_rows(x.rows(), y.len())?;
        let counts = counts(y, n_classes);
        crate::labels::every_class(&counts)?;
        positive("tolerance", self.tolerance)?;
        l2.iter().try_for_each(|l2| positive("l2", *l2))?;
        let weight = |class: &u32| {
            let share = x.rows() as f64 / (n_classes as f64 * counts[*class as usize] as f64);
            if self.balanced { share } else { 1.0 }
        };
        let mut loss = Loss::new(x, y, n_classes, y.iter().map(weight).collect(), price);
        let stop = Stop { gap: self.tolerance, iterations: self.max_iterations, evaluations: usize::MAX };
        let (mut at, mut memory) = (loss.start(), Memory::default());
        let mut hard = false;
        let mut order: Vec<usize> = (0..l2.len()).collect();
        order.sort_by(|a, b| l2[*b].total_cmp(&l2[*a]));
        let mut solved: Vec<(usize, Solved)> = Vec::with_capacity(l2.len());
        for i in order {
            memory.add(&loss.penalty_change(l2[i]));
            loss.set_lambda(l2[i], &at)?;
            let convergence = descend(&mut loss, &mut at, &mut memory, &mut hard, stop);
            solved.push((i, Solved::new(&at, x.cols(), loss.k(), l2[i], convergence)));
        }
        solved.sort_by_key(|(i, _)| *i);
        Ok(solved.into_iter().map(|(_, solved)| solved).collect())
    }
}

/// Minimises with the cheap preconditioner for as many passes as the exact Hessian costs, then with that, made anew
/// whenever it has been used for as long. After a λ for which it was needed, the next (`hard`) begin with it.
fn descend<F: Features>(
    loss: &mut Loss<'_, F>,
    at: &mut Vec<f64>,
    memory: &mut Memory,
    hard: &mut bool,
    stop: Stop,
) -> Convergence {
    let patience = Hessian::passes(at.len() / loss.k() - 1, loss.k());
    let mut exact = *hard && loss.be_exact(at);
    if exact {
        *memory = Memory::default();
    }
    let (mut iterations, mut evaluations) = (0, 0);
    loop {
        let left = stop.iterations - iterations;
        let some = patience.map_or(left, |patience| patience.min(left));
        let mut end = minimise(loss, at, memory, Stop { iterations: some, ..stop });
        let stuck = exact && end.iterations == 0;
        iterations += end.iterations;
        evaluations += end.evaluations;
        (end.iterations, end.evaluations) = (iterations, evaluations);
        if end.converged || iterations == stop.iterations || stuck || !loss.be_exact(at) {
            return end;
        }
        (exact, *hard, *memory) = (true, true, Memory::default());
    }
}

/// A minimum in the coordinates it was found in.
struct Solved {
    /// `(d, k)`
    weights: Array2<f64>,
    bias: Array1<f64>,
    l2: f64,
    convergence: Convergence,
}

impl Solved {
    fn new(at: &[f64], d: usize, k: usize, l2: f64, convergence: Convergence) -> Self {
        let (w, b) = at.split_at(d * k);
        let mut bias = Array1::from(b.to_vec());
        if k > 1 {
            bias -= bias.sum() / k as f64;
        }
        Self { weights: Array2::from_shape_fn((d, k), |(i, j)| w[i * k + j]), bias, l2, convergence }
    }

    fn probe(self, weights: Array2<f64>, bias: Array1<f64>) -> LogisticProbe {
        let link = if bias.len() == 1 { Link::Sigmoid } else { Link::Softmax };
        let linear = Linear { weights, bias, link };
        LogisticProbe { linear, l2: self.l2, convergence: self.convergence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;
    use crate::{Csr, Dense};

    #[test]
    fn sparse_rows_give_the_probe_of_dense_ones() {
        // Tokens 0 to 4; class 1 has more of token 0, class 2 of token 1.
        let x = normal(90, 5, 1).mapv(|v| (v * 2.0).max(0.0).floor());
        let y: Vec<u32> =
            (0..90).map(|i| u32::from(x[[i, 0]] > 1.0) + 2 * u32::from(x[[i, 1]] > 2.0)).collect();
        let y: Vec<u32> = y.iter().map(|c| *c.min(&2)).collect();
        let tokens: Vec<Vec<u32>> = x
            .outer_iter()
            .map(|row| row.iter().zip(0..).flat_map(|(n, t)| vec![t; *n as usize]).collect())
            .collect();
        let sparse = Csr::counts(5, tokens.iter().map(Vec::as_slice)).unwrap();
        let labels = Labels::Classes { y: &y, n_classes: 3 };
        let (logistic, l2) = (Logistic::default(), [0.1, 10.0]);
        let by_counts = logistic.path_plain(&sparse, &labels, &l2).unwrap();
        let by_rows = logistic.path_plain(&Dense::new(x.view()).unwrap(), &labels, &l2).unwrap();
        let whitened = logistic.path(&Whitened::new(x.view(), false).unwrap(), &labels, &l2).unwrap();
        for ((a, b), c) in by_counts.iter().zip(&by_rows).zip(&whitened) {
            assert!(a.convergence.converged && b.convergence.converged && c.convergence.converged);
            assert!((&a.linear.weights - &b.linear.weights).mapv(f64::abs).sum() < 1e-3);
            assert!((&a.linear.weights - &c.linear.weights).mapv(f64::abs).sum() < 1e-3);
            assert!((&a.linear.bias - &c.linear.bias).mapv(f64::abs).sum() < 1e-3);
            let scores = a.linear.scores_of(&sparse).unwrap() - c.scores(x.view()).unwrap();
            assert!(scores.mapv(f64::abs).sum() < 0.1);
        }
    }

    #[test]
    fn not_to_converge_is_an_error_and_parameters_are_checked() {
        let x = normal(60, 4, 1);
        let y: Vec<u32> = (0..60).map(|i| u32::from(x[[i, 0]] > 0.0)).collect();
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &y, n_classes: 2 } };
        let fit = |logistic: Logistic| logistic.fit(&data);
        assert!(fit(Logistic::default()).unwrap().convergence.converged);
        assert!(matches!(
            fit(Logistic { max_iterations: 1, ..Logistic::default() }),
            Err(Error::NotConverged { .. })
        ));
        assert!(matches!(
            fit(Logistic { l2: 0.0, ..Logistic::default() }),
            Err(Error::Parameter { name: "l2", .. })
        ));
        let missing = Labelled { y: Labels::Classes { y: &y, n_classes: 3 }, ..data };
        assert!(
            matches!(Logistic::default().fit(&missing), Err(Error::LacksClass { class }) if class.number == 2)
        );
    }
}
