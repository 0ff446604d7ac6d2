//! Contrast-consistent search: a direction of truth from pairs of a statement and its negation, without labels.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::draw::{Purpose, stream, uniform};
use crate::labels::same_rows;
use crate::linalg::{of, of_mut, product};
use crate::{Error, Linear, Link, Spectrum, Standardise};

/// Of the restarts of CCS.
const STARTS: &Purpose = b"layerscope/ccs restarts!";

/// Statements and their negations, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// `(n, d)`
    pub positive: ArrayView2<'a, f32>,
    /// `(n, d)`
    pub negative: ArrayView2<'a, f32>,
}

impl Pairs<'_> {
    /// The z-scores of each side by its own rows, so that a side is not told by the word that makes it.
    fn standardise(&self) -> Result<[Standardise; 2], Error> {
        same_rows(self.positive.nrows(), self.negative.nrows())?;
        crate::labels::same_width(self.positive.ncols(), self.negative.ncols())?;
        if self.positive.nrows() < 2 {
            return Err(Error::Few { expected: 2, got: self.positive.nrows() });
        }
        Ok([Standardise::of_rows(self.positive)?, Standardise::of_rows(self.negative)?])
    }
}

/// How a direction is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairDirection {
    /// CCS (Burns et al. 2022): the least `mean[(p⁺ - (1 - p⁻))² + min(p⁺, p⁻)²]`, `p = σ(w · z + b)`.
    Consistency(Ccs),
    /// CRC-TPC (the same): the top principal component of `z⁺ - z⁻`. In closed form. Where differences do not vary
    /// there is none: a direction of zeros, whose scores are all ½.
    TopComponent,
}

/// The descent of CCS: `AdamW`, every restart at once, of which the one of least loss is kept. The defaults are those
/// of the published code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ccs {
    /// Random starts.
    pub restarts: usize,
    /// Steps over all pairs.
    pub steps: usize,
    /// Of the random starts.
    pub seed: u64,
}

impl Default for Ccs {
    fn default() -> Self {
        Self { restarts: 10, steps: 1000, seed: 0 }
    }
}

const RATE: f64 = 1e-3;
const DECAY: f64 = 1e-2;

/// A fitted direction over pairs. Its sign means nothing before [`Self::orient`].
#[derive(Debug, Clone, PartialEq)]
pub struct PairProbe {
    /// For statements, on raw rows: `σ` of its value is `p⁺`.
    pub positive: Linear,
    /// For negations, on raw rows: `σ` of its value is `p⁻`.
    pub negative: Linear,
    /// The loss of CCS on the pairs of the fit.
    pub loss: f64,
    /// Whether labels have settled the sign.
    pub oriented: bool,
}

impl PairDirection {
    /// Fits a direction to `pairs`.
    ///
    /// # Errors
    /// When the sides differ in shape, there are fewer than two pairs, or a value is not finite.
    pub fn fit(&self, pairs: Pairs<'_>) -> Result<PairProbe, Error> {
        let by = pairs.standardise()?;
        let z = [by[0].apply(pairs.positive)?, by[1].apply(pairs.negative)?];
        let (direction, bias) = match self {
            Self::Consistency(ccs) => ccs.descend(&z)?,
            Self::TopComponent => {
                let spectrum = Spectrum::of_rows((&z[0] - &z[1]).view(), false)?;
                let top = spectrum.vectors.outer_iter().next_back();
                (top.map_or_else(|| Array1::zeros(z[0].ncols()), |top| top.to_owned()), 0.0)
            }
        };
        let linear = |by| {
            let weights = direction.clone().insert_axis(Axis(0));
            Linear::new(weights, ndarray::array![bias], Link::Sigmoid)?.fold(by)
        };
        let mut probe =
            PairProbe { positive: linear(&by[0])?, negative: linear(&by[1])?, loss: 0.0, oriented: false };
        let (p, q) = probe.probabilities(pairs)?;
        probe.loss = Zip::from(&p).and(&q).fold(0.0, |sum, p, q| sum + pair(*p, *q).0) / p.len() as f64;
        Ok(probe)
    }
}

impl PairProbe {
    /// `½ (p⁺ + 1 - p⁻)` `(n,)`: how likely each statement is to be true, once oriented.
    ///
    /// # Errors
    /// When the rows do not fit.
    pub fn scores(&self, pairs: Pairs<'_>) -> Result<Array1<f64>, Error> {
        let (p, q) = self.probabilities(pairs)?;
        Ok((p + 1.0 - q) / 2.0)
    }

    fn probabilities(&self, pairs: Pairs<'_>) -> Result<(Array1<f64>, Array1<f64>), Error> {
        same_rows(pairs.positive.nrows(), pairs.negative.nrows())?;
        let p = |probe: &Linear, x| Ok::<_, Error>(probe.values(x)?.column(0).mapv(sigmoid));
        Ok((p(&self.positive, pairs.positive)?, p(&self.negative, pairs.negative)?))
    }

    /// Turns the direction so that true statements score above ½, by labelled pairs; returns its accuracy on them,
    /// which is then at least ½.
    ///
    /// # Errors
    /// When the rows or labels do not fit, or there are none.
    pub fn orient(&mut self, pairs: Pairs<'_>, truth: &[bool]) -> Result<f64, Error> {
        same_rows(pairs.positive.nrows(), truth.len())?;
        if truth.is_empty() {
            return Err(Error::Few { expected: 1, got: 0 });
        }
        let scores = self.scores(pairs)?;
        let right = scores.iter().zip(truth).filter(|(s, t)| (**s > 0.5) == **t).count();
        let accuracy = right as f64 / truth.len() as f64;
        self.oriented = true;
        if accuracy >= 0.5 {
            return Ok(accuracy);
        }
        for side in [&mut self.positive, &mut self.negative] {
            side.weights.mapv_inplace(|w| -w);
            side.bias.mapv_inplace(|b| -b);
        }
        let scores = self.scores(pairs)?;
        let right = scores.iter().zip(truth).filter(|(s, t)| (**s > 0.5) == **t).count();
        Ok(right as f64 / truth.len() as f64)
    }
}

/// Loss of one pair, and its derivatives by `p⁺` and `p⁻`.
fn pair(p: f64, q: f64) -> (f64, f64, f64) {
    let (inconsistent, unsure) = (p + q - 1.0, p.min(q));
    let loss = inconsistent * inconsistent + unsure * unsure;
    let (p_least, q_least) = if p <= q { (2.0 * unsure, 0.0) } else { (0.0, 2.0 * unsure) };
    (loss, 2.0 * inconsistent + p_least, 2.0 * inconsistent + q_least)
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Ccs {
    /// The direction `(d,)` and bias of least loss, on z-scores.
    fn descend(&self, z: &[Array2<f32>; 2]) -> Result<(Array1<f64>, f64), Error> {
        if self.restarts == 0 {
            return Err(Error::Parameter { name: "restarts", expected: "at least 1", got: 0.0 });
        }
        let (d, r) = (z[0].ncols(), self.restarts);
        // The last row is the bias. torch's first weights of a linear layer: uniform within 1 / √d.
        let bound = (d.max(1) as f64).sqrt().recip();
        let mut at = Array2::zeros((d + 1, r));
        for (start, mut column) in at.axis_iter_mut(Axis(1)).enumerate() {
            let mut rng = stream(self.seed, STARTS, start as u64);
            column.mapv_inplace(|_: f64| bound * (2.0 * uniform(&mut rng) - 1.0));
        }
        let (mut first, mut second) = (Array2::<f64>::zeros((d + 1, r)), Array2::<f64>::zeros((d + 1, r)));
        for step in 1..=self.steps as i32 {
            let (_, gradient) = losses(z, &at);
            let (fix_1, fix_2) = (1.0 - 0.9f64.powi(step), 1.0 - 0.999f64.powi(step));
            Zip::from(&mut at).and(&mut first).and(&mut second).and(&gradient).for_each(|w, m, v, g| {
                (*m, *v) = (0.9 * *m + 0.1 * g, 0.999 * *v + 0.001 * g * g);
                *w -= RATE * (DECAY * *w + (*m / fix_1) / ((*v / fix_2).sqrt() + 1e-8));
            });
        }
        let (losses, _) = losses(z, &at);
        let best = (0..r).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap_or(0);
        Ok((at.slice(ndarray::s![..d, best]).to_owned(), at[[d, best]]))
    }
}

/// Mean loss of each start `(r,)` and its gradient `(d + 1, r)`.
fn losses(z: &[Array2<f32>; 2], at: &Array2<f64>) -> (Array1<f64>, Array2<f64>) {
    let (n, d, r) = (z[0].nrows(), z[0].ncols(), at.ncols());
    let w = at.slice(ndarray::s![..d, ..]).mapv(|v| v as f32);
    let mut values = [Array2::<f32>::zeros((n, r)), Array2::<f32>::zeros((n, r))];
    for (z, out) in z.iter().zip(&mut values) {
        product(of_mut(out), true, of(z), of(&w));
    }
    let (mut loss, mut gradient) = (Array1::zeros(r), Array2::zeros((d + 1, r)));
    let [positive, negative] = &mut values;
    for (mut a, mut b) in positive.outer_iter_mut().zip(negative.outer_iter_mut()) {
        for j in 0..r {
            let bias = at[[d, j]];
            let (p, q) = (sigmoid(f64::from(a[j]) + bias), sigmoid(f64::from(b[j]) + bias));
            let (l, by_p, by_q) = pair(p, q);
            let (by_a, by_b) = (by_p * p * (1.0 - p) / n as f64, by_q * q * (1.0 - q) / n as f64);
            loss[j] += l / n as f64;
            gradient[[d, j]] += by_a + by_b;
            (a[j], b[j]) = (by_a as f32, by_b as f32);
        }
    }
    let mut part = Array2::<f32>::zeros((d, r));
    for (i, (z, by)) in z.iter().zip(&values).enumerate() {
        product(of_mut(&mut part), i == 0, of(z).transpose(), of(by));
    }
    gradient.slice_mut(ndarray::s![..d, ..]).assign(&part.mapv(f64::from));
    (loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::tests::normal;

    /// Truth moves a pair apart along the first dimension; the word of the negation moves it along the second.
    fn planted(n: usize, truth: &[bool]) -> [Array2<f32>; 2] {
        let mut sides = [normal(n, 6, 1), normal(n, 6, 2)];
        for (i, t) in truth.iter().enumerate() {
            let by = if *t { 4.0 } else { -4.0 };
            sides[0][[i, 0]] += by;
            sides[1][[i, 0]] -= by;
            sides[1][[i, 1]] += 50.0;
        }
        sides
    }

    #[test]
    fn a_planted_direction_is_found_without_labels() {
        let truth: Vec<bool> = (0..200).map(|i| i % 3 == 0 || i % 5 == 1).collect();
        let [positive, negative] = planted(200, &truth);
        let pairs = Pairs { positive: positive.view(), negative: negative.view() };
        for kind in [PairDirection::TopComponent, PairDirection::Consistency(Ccs::default())] {
            let mut probe = kind.fit(pairs).unwrap();
            assert!(!probe.oriented);
            assert!(probe.orient(pairs, &truth).unwrap() > 0.97, "{kind:?}");
            // Asked for the opposite, it turns round.
            let opposite: Vec<bool> = truth.iter().map(|t| !t).collect();
            let scores = probe.scores(pairs).unwrap();
            assert!(probe.orient(pairs, &opposite).unwrap() > 0.97 && probe.oriented);
            assert!((probe.scores(pairs).unwrap() + scores - 1.0).mapv(f64::abs).sum() < 1e-6);
            assert!(probe.loss < 0.4, "{}", probe.loss);
        }
        let again =
            |seed| PairDirection::Consistency(Ccs { seed, steps: 50, ..Ccs::default() }).fit(pairs).unwrap();
        assert_eq!(again(1), again(1));
        assert_ne!(again(1), again(2));
    }

    #[test]
    fn one_pair_by_hand() {
        // p = 0.7, q = 0.4: (0.1)² + 0.4²; by p 2 · 0.1, by q 2 · 0.1 + 2 · 0.4
        let (l, p, q) = pair(0.7, 0.4);
        assert!((l - 0.17).abs() < 1e-12 && (p - 0.2).abs() < 1e-12 && (q - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let z = [normal(40, 3, 1), normal(40, 3, 2)];
        let at = normal(4, 2, 3).mapv(f64::from);
        let (_, gradient) = losses(&z, &at);
        for ((i, j), g) in gradient.indexed_iter() {
            let value = |by: f64| {
                let mut moved = at.clone();
                moved[[i, j]] += by;
                losses(&z, &moved).0[j]
            };
            let slope = (value(1e-3) - value(-1e-3)) / 2e-3;
            assert!((slope - g).abs() < 1e-3, "{slope} {g}");
        }
    }

    #[test]
    fn pairs_that_do_not_vary_have_no_direction() {
        let same = normal(5, 3, 1);
        let pairs = Pairs { positive: same.view(), negative: same.view() };
        let mut probe = PairDirection::TopComponent.fit(pairs).unwrap();
        assert_eq!(probe.scores(pairs).unwrap(), Array1::from_elem(5, 0.5));
        assert_eq!(probe.orient(pairs, &[true, false, false, false, false]).unwrap(), 0.8);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (a, b) = (normal(4, 3, 1), normal(3, 3, 2));
        let pairs = Pairs { positive: a.view(), negative: b.view() };
        assert!(matches!(PairDirection::TopComponent.fit(pairs), Err(Error::Length { .. })));
        let one = Pairs { positive: b.slice(ndarray::s![..1, ..]), negative: b.slice(ndarray::s![1..2, ..]) };
        assert!(matches!(PairDirection::TopComponent.fit(one), Err(Error::Few { .. })));
    }
}
