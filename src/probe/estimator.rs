//! Estimators by name, each with its penalty chosen on the validation part.

use std::cell::OnceCell;

use clap::ValueEnum;
use layerscope_probes::{
    Centroid, Error, Fit as _, Labelled, Labels, Lda, Linear, Logistic, MeanDifference, Probe as _, Ridge,
    Whitened,
    score::{Classified, Metric as _, R2},
};
use ndarray::{Array2, ArrayView2};

/// Where logistic regression stops: its estimated distance to the minimum, relative to the objective.
const TOLERANCE: f64 = 1e-6;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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
        }
    }

    /// Whether it fits labels of `n_classes` classes (none: numbers).
    pub fn suits(self, n_classes: Option<usize>) -> bool {
        match (self, n_classes) {
            (Self::Ridge, _) => true,
            (Self::MeanDiff, Some(k)) => k == 2,
            (_, classes) => classes.is_some(),
        }
    }

    /// Whether there is a penalty to choose.
    fn has_penalty(self) -> bool {
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
}

impl<'a> Prepared<'a> {
    pub(super) fn new(x: Array2<f32>, options: &'a Options) -> Self {
        Self { x, options, whitened: OnceCell::new() }
    }

    pub(super) fn x(&self) -> ArrayView2<'_, f32> {
        self.x.view()
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
            if best.as_ref().is_none_or(|(other, _)| value > *other) {
                best = Some((value, fitted));
            }
        }
        best.map(|(_, fitted)| fitted).ok_or(Error::Empty)
    }

    /// A probe for each penalty of `l2`; one where there is none.
    pub(super) fn fit(&self, estimator: Estimator, y: &Labels<'_>, l2: &[f64]) -> Result<Vec<Fitted>, Error> {
        let (x, standardise) = (self.x.view(), self.options.standardise);
        let data = Labelled { x, y: y.view() };
        let plain = |linear: Linear| vec![Fitted { linear, l2: None, converged: true }];
        match estimator {
            Estimator::Logistic => {
                let logistic = logistic(self.options);
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
            Estimator::MeanDiff => Ok(plain(MeanDifference { standardise }.fit(&data)?)),
            Estimator::Lda => Ok(plain(Lda { standardise, ..Lda::default() }.fit(&data)?)),
            Estimator::Centroid => Ok(plain(Centroid { standardise }.fit(&data)?)),
        }
    }

    fn whitened(&self) -> Result<&Whitened, Error> {
        if let Some(whitened) = self.whitened.get() {
            return Ok(whitened);
        }
        let made = Whitened::new(self.x.view(), self.options.standardise)?;
        Ok(self.whitened.get_or_init(|| made))
    }
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
