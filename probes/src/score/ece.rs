use super::{Classified, Lanes, Metric, add, each};

/// Equal-width bins of a probability, (0, 1/15], … (14/15, 1].
pub(super) const BINS: usize = 15;

/// The bin of a probability; 0 is in the first.
pub(super) fn bin(p: f64) -> usize {
    ((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

/// Expected calibration error: Σ over bins of |rows right - rows expected right| / rows, the rows binned by the
/// probability of their predicted class (Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural
/// networks").
///
/// Chance alone keeps the two sums of a bin apart, so that of few rows the number is too high even where probabilities
/// are right: [`Self::debiased`] takes some of that off, [`Self::calibrated`] says how much of it a calibrated probe
/// has.
#[derive(Debug, Clone)]
pub struct Ece {
    /// The bin of each row.
    bins: Vec<usize>,
    /// The probability of each row's predicted class.
    top: Vec<f64>,
    /// 1 or 0 for right or wrong.
    right: Vec<f64>,
}

impl Ece {
    pub(super) fn new(of: &Classified) -> Self {
        let rows = of.log_probs.outer_iter().zip(&of.predicted);
        let top: Vec<f64> = rows.map(|(row, &class)| row[class as usize].exp()).collect();
        Self { bins: top.iter().map(|p| bin(*p)).collect(), right: of.correct(), top }
    }

    /// `ece_debiased`
    pub fn debiased(&self) -> DebiasedEce<'_> {
        DebiasedEce(self)
    }

    /// `ece_calibrated`
    pub fn calibrated(&self) -> CalibratedEce<'_> {
        CalibratedEce(self)
    }

    /// Sums over the rows of each bin of `of(probability, right)`.
    fn sums(&self, weights: &[Lanes], of: impl Fn(f64, f64) -> f64) -> [Lanes; BINS] {
        let mut sums = [Lanes::default(); BINS];
        for (((&bin, &p), &right), weight) in self.bins.iter().zip(&self.top).zip(&self.right).zip(weights) {
            add(&mut sums[bin], weight, of(p, right));
        }
        sums
    }
}

/// Σ of the weights.
fn total(weights: &[Lanes]) -> Lanes {
    let mut all = Lanes::default();
    for weight in weights {
        add(&mut all, weight, 1.0);
    }
    all
}

impl Metric for Ece {
    fn rows(&self) -> usize {
        self.top.len()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let (gaps, all) = (self.sums(weights, |p, right| right - p), total(weights));
        each(|lane| gaps.iter().map(|gap| gap[lane].abs()).sum::<f64>() / all[lane])
    }
}

/// [`Ece`] less what chance is estimated to have added to it: each bin's |gap| is taken down by E|N(gap, σ²)| - |gap|
/// (Kumar, Liang & Ma 2019, "Verified uncertainty calibration", in closed form in place of their draws). σ² is the
/// unbiased variance of the bin's rows right (Bröcker 2012, "Estimating reliability and resolution of probability
/// forecasts"); of a bin of one row, which has none, p (1 - p).
///
/// Of a calibrated probe about half of the excess is left, of one that is far off nearly none. It can be below 0.
#[derive(Debug, Clone, Copy)]
pub struct DebiasedEce<'a>(&'a Ece);

impl Metric for DebiasedEce<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let all = total(weights);
        let n = self.0.sums(weights, |_, _| 1.0);
        let right = self.0.sums(weights, |_, right| right);
        let expected = self.0.sums(weights, |p, _| p);
        let alone = self.0.sums(weights, |p, _| p * (1.0 - p));
        each(|lane| {
            let bin = |bin: usize| {
                let (n, right) = (n[bin][lane], right[bin][lane]);
                let gap = (right - expected[bin][lane]).abs();
                let wrong = n - right;
                let variance = if n > 1.0 { right * wrong / (n - 1.0) } else { alone[bin][lane] };
                2.0 * gap - folded(gap, variance.max(0.0).sqrt())
            };
            (0..BINS).map(bin).sum::<f64>() / all[lane]
        })
    }
}

/// E|X| of X ~ N(mean, deviation²), mean not negative.
fn folded(mean: f64, deviation: f64) -> f64 {
    if deviation == 0.0 {
        return mean;
    }
    let z = mean / deviation;
    deviation * (2.0 / std::f64::consts::PI).sqrt() * (-z * z / 2.0).exp()
        + mean * libm::erf(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// What [`Ece`] is on average for a probe that is calibrated, has these probabilities for its predicted classes and is
/// tested on as many independent rows: Σ over bins of E|X - E X| / rows, X the rows right. How many of a bin are wrong
/// is taken as binomial with the mean and the variance of the sum (exact where the bin's probabilities are equal).
#[derive(Debug, Clone, Copy)]
pub struct CalibratedEce<'a>(&'a Ece);

impl Metric for CalibratedEce<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let all = total(weights);
        let mean = self.0.sums(weights, |p, _| 1.0 - p);
        let square = self.0.sums(weights, |p, _| (1.0 - p) * (1.0 - p));
        each(|lane| {
            let bins = (0..BINS).map(|bin| mean_deviation(mean[bin][lane], square[bin][lane]));
            bins.sum::<f64>() / all[lane]
        })
    }
}

/// E|X - E X| of X ~ Binomial(N, θ) whose mean is Σ q and whose variance Σ q (1 - q): θ = Σ q² / Σ q, N = Σ q / θ, not
/// necessarily whole. De Moivre's 2 (k + 1) C(N, k + 1) θ^(k + 1) (1 - θ)^(N - k), k = ⌊N θ⌋.
fn mean_deviation(mean: f64, square: f64) -> f64 {
    if square <= 0.0 {
        return 0.0;
    }
    let theta = (square / mean).min(1.0 - f64::EPSILON);
    let (n, k) = (mean / theta, mean.floor());
    // Rounding may put n below k, where it is k: nothing is left to chance.
    if n - k <= 0.0 {
        return 0.0;
    }
    let choose = libm::lgamma(n + 1.0) - libm::lgamma(k + 2.0) - libm::lgamma(n - k);
    let ln = choose + (k + 1.0) * theta.ln() + (n - k) * (-theta).ln_1p();
    2.0 * (k + 1.0) * ln.exp()
}
