//! Estimators by name, each with its penalty chosen on the validation part.

use std::cell::OnceCell;

use layerscope_probes::{
    Ccs, Centroid, Error, Labelled, Labels, Lda, Linear, Link, Logistic, MeanDifference, Moments,
    PairDirection, PairProbe, Pairs, Probe as _, Ridge, Standardise, Whitened,
    score::{Classified, Metric as _, R2},
};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

/// Where logistic regression stops: its estimated distance to the minimum, relative to the objective.
const TOLERANCE: f64 = 1e-6;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Logistic regression with an L2 penalty
    Logistic,
    /// Ridge regression, of numbers or of one-hot classes
    Ridge,
    /// Difference of the two class means
    MeanDiff,
    /// Linear discriminant analysis: the whitened mean difference
    Lda,
    /// Nearest class mean
    Centroid,
    /// Contrast-consistent search over pairs (--negation-column)
    Ccs,
    /// Top component of the differences of pairs (--negation-column)
    Crc,
}

impl Estimator {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Ridge => "ridge",
            Self::MeanDiff => "mean-diff",
            Self::Lda => "lda",
            Self::Centroid => "centroid",
            Self::Ccs => "ccs",
            Self::Crc => "crc",
        }
    }

    /// Whether it fits labels of `n_classes` classes (none: numbers), of pairs of texts or of single ones.
    pub fn suits(self, n_classes: Option<usize>, paired: bool) -> bool {
        match (self, n_classes) {
            (Self::Ridge, _) => true,
            (Self::MeanDiff, Some(k)) => k == 2,
            (Self::Ccs | Self::Crc, Some(k)) => k == 2 && paired,
            (_, classes) => classes.is_some(),
        }
    }

    /// Whether it is fitted from sums over the rows alone.
    pub fn closed_form(self) -> bool {
        matches!(self, Self::Ridge | Self::MeanDiff | Self::Lda | Self::Centroid)
    }

    /// Whether there is a penalty to choose.
    pub(super) fn has_penalty(self) -> bool {
        matches!(self, Self::Logistic | Self::Ridge)
    }
}

/// Settings of every estimator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Penalties to choose from.
    pub l2: Vec<f64>,
    /// Z-score by the training part.
    pub standardise: bool,
    /// Weigh classes equally (logistic).
    pub balanced: bool,
    /// Rows are the states of two texts side by side: a statement, whose truth is the label, and its negation.
    pub paired: bool,
}

/// A fitted probe on raw states.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// Directions and biases.
    pub linear: Linear,
    /// The penalty, where there is one.
    pub l2: Option<f64>,
    /// Whether the optimiser reached its tolerance.
    pub converged: bool,
}

/// The training part's states, with what estimators share.
pub(super) struct Prepared<'a> {
    x: Array2<f32>,
    options: &'a Options,
    whitened: OnceCell<Whitened>,
    /// Of CCS and CRC, which read no label: only their sign does.
    directions: [OnceCell<PairProbe>; 2],
}

impl<'a> Prepared<'a> {
    pub(super) fn new(x: Array2<f32>, options: &'a Options) -> Self {
        Self { x, options, whitened: OnceCell::new(), directions: [OnceCell::new(), OnceCell::new()] }
    }

    pub(super) fn paired(&self) -> bool {
        self.options.paired
    }

    pub(super) fn x(&self) -> ArrayView2<'_, f32> {
        self.x.view()
    }

    /// Whether the states do not vary.
    pub(super) fn constant(&self) -> Result<bool, Error> {
        Ok(Standardise::of_rows(self.x.view())?.is_constant())
    }

    /// Fits with every penalty and keeps the one that does best on `validation`; of equals the largest.
    pub(super) fn choose(
        &self,
        estimator: Estimator,
        y: &Labels<'_>,
        validation: (ArrayView2<'_, f32>, &Labels<'_>),
    ) -> Result<Fitted, Error> {
        if !estimator.has_penalty() {
            return Ok(self.fit(estimator, y, &[])?.remove(0));
        }
        let mut penalties = self.options.l2.clone();
        penalties.sort_by(|a, b| b.total_cmp(a));
        let mut best: Option<(f64, Fitted)> = None;
        for fitted in self.fit(estimator, y, &penalties)? {
            let value = goodness(estimator, &fitted.linear.scores(validation.0)?, validation.1)?;
            // NaN, where numbers do not vary in the validation part, is better than nothing: the largest penalty stays.
            if best.as_ref().is_none_or(|(other, _)| value > *other) {
                best = Some((value, fitted));
            }
        }
        best.map(|(_, fitted)| fitted).ok_or(Error::Empty)
    }

    /// A probe for each penalty of `l2`; one where there is none.
    pub(super) fn fit(&self, estimator: Estimator, y: &Labels<'_>, l2: &[f64]) -> Result<Vec<Fitted>, Error> {
        let data = Labelled { x: self.x.view(), y: y.view() };
        let plain = |linear: Linear| vec![Fitted { linear, l2: None, converged: true }];
        match estimator {
            Estimator::Logistic => {
                let mut logistic = logistic(self.options);
                // Of constant states equal weights would leave nothing to say, not even the commonest class.
                logistic.balanced &= !self.constant()?;
                let path = logistic.path(self.whitened()?, y, l2)?;
                Ok(path
                    .into_iter()
                    .map(|p| Fitted { linear: p.linear, l2: Some(p.l2), converged: p.convergence.converged })
                    .collect())
            }
            Estimator::Ridge => {
                let path = Ridge::path(self.whitened()?.spectrum(), &data, l2)?;
                let one = |(linear, l2): (Linear, &f64)| Fitted { linear, l2: Some(*l2), converged: true };
                Ok(path.into_iter().zip(l2).map(one).collect())
            }
            Estimator::MeanDiff | Estimator::Lda | Estimator::Centroid => {
                of_moments(estimator, &Moments::of(&data)?, self.options, l2)
            }
            Estimator::Ccs => {
                Ok(plain(self.direction(0, PairDirection::Consistency(Ccs::default()), &data)?))
            }
            Estimator::Crc => Ok(plain(self.direction(1, PairDirection::TopComponent, &data)?)),
        }
    }

    /// A direction over pairs, its sign by the labels: log-odds of the statement less those of the negation.
    fn direction(&self, place: usize, how: PairDirection, data: &Labelled<'_>) -> Result<Linear, Error> {
        let (positive, negative) = data.x.split_at(Axis(1), data.x.ncols() / 2);
        let pairs = Pairs { positive, negative };
        let cell = &self.directions[place];
        let mut found = if let Some(found) = cell.get() {
            found.clone()
        } else {
            let made = how.fit(pairs)?;
            cell.get_or_init(|| made).clone()
        };
        let truth: Vec<bool> = data.y.classes()?.0.iter().map(|y| *y == 1).collect();
        found.orient(pairs, &truth)?;
        let weights = concatenate![Axis(1), found.positive.weights, -found.negative.weights];
        let mut bias = found.positive.bias - found.negative.bias;
        if weights.iter().all(|w| *w == 0.0) {
            // Pairs that do not differ: the commonest class is what is left to say.
            let yes = truth.iter().filter(|t| **t).count() as f64;
            bias.fill((yes / (truth.len() as f64 - yes)).ln());
        }
        Linear::new(weights, bias, Link::Margin)
    }

    fn whitened(&self) -> Result<&Whitened, Error> {
        if let Some(whitened) = self.whitened.get() {
            return Ok(whitened);
        }
        let made = Whitened::new(self.x.view(), self.options.standardise)?;
        Ok(self.whitened.get_or_init(|| made))
    }
}

/// A closed-form probe from sums, for each penalty of `l2`; one where there is none.
pub(super) fn of_moments(
    estimator: Estimator,
    moments: &Moments,
    options: &Options,
    l2: &[f64],
) -> Result<Vec<Fitted>, Error> {
    let standardise = options.standardise;
    let linear = match estimator {
        Estimator::Ridge => {
            let path = Ridge::path_of_moments(moments, standardise, l2)?;
            let one = |(linear, l2): (Linear, &f64)| Fitted { linear, l2: Some(*l2), converged: true };
            return Ok(path.into_iter().zip(l2).map(one).collect());
        }
        Estimator::MeanDiff => MeanDifference { standardise }.fit_moments(moments)?,
        Estimator::Lda => Lda { standardise, ..Lda::default() }.fit_moments(moments)?,
        Estimator::Centroid => Centroid { standardise }.fit_moments(moments)?,
        Estimator::Logistic | Estimator::Ccs | Estimator::Crc => {
            return Err(Error::Kind { expected: "a closed-form probe", got: estimator.name() });
        }
    };
    Ok(vec![Fitted { linear, l2: None, converged: true }])
}

/// Logistic regression as sweeps use it.
pub(super) fn logistic(options: &Options) -> Logistic {
    Logistic { balanced: options.balanced, tolerance: TOLERANCE, ..Logistic::default() }
}

/// What a penalty is chosen by: minus the NLL of probabilities, accuracy of other classifiers, R² of numbers.
fn goodness(estimator: Estimator, scores: &Array2<f64>, y: &Labels<'_>) -> Result<f64, Error> {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    match y {
        Labels::Numbers(y) => Ok(R2::new(scores.view(), *y)?.point()),
        Labels::Classes { y, .. } => {
            let classified = Classified::new(scores.view(), y)?;
            Ok(if estimator == Estimator::Logistic {
                -mean(classified.nll())
            } else {
                mean(classified.correct())
            })
        }
    }
}
