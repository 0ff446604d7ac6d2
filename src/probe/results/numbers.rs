//! Numbers with what their intervals rest on, and their means over the seeds of the splits.

use layerscope_probes::{
    Draws, Error, Estimate, Weightings, over_draws,
    score::{Classified, R2},
};
use ndarray::Array2;

use super::super::Target;
use crate::results::run::{MetricRow, RowKind, Subject};

/// A number of a probe.
#[derive(Debug, Clone)]
pub(super) enum Number {
    /// Measured on the rows.
    Plain(Draws),
    /// Measured with each of several draws of labels or of orders; their mean is quoted.
    Drawn(Vec<Draws>),
}

impl Number {
    /// With its interval.
    pub(super) fn estimate(&self) -> Result<Estimate, Error> {
        match self {
            Self::Plain(draws) => Ok(draws.estimate()),
            Self::Drawn(all) => over_draws(all),
        }
    }
}

/// Numbers by their metric's name.
pub(super) type Named = Vec<(String, Number)>;

/// Every metric that a target has and that is defined.
pub(in crate::probe) fn metrics(
    target: &Target,
    weightings: &Weightings,
    scores: &Array2<f64>,
) -> Result<Vec<(String, Draws)>, Error> {
    let all: Vec<(String, Draws)> = match target {
        Target::Numbers(y) => {
            vec![("r2".to_owned(), weightings.metric(&R2::new(scores.view(), y.view())?)?)]
        }
        Target::Classes { y, .. } => {
            let all = Classified::new(scores.view(), y)?.metrics(weightings)?;
            all.into_iter().map(|(name, draws)| (name.to_owned(), draws)).collect()
        }
    };
    // Those that have a value: of one class there is no AUROC, of numbers that do not vary no R².
    Ok(all.into_iter().filter(|(_, draws)| draws.value.is_finite()).collect())
}

/// What layers are compared by: accuracy or R².
pub(super) fn compared(
    target: &Target,
    weightings: &Weightings,
    scores: &Array2<f64>,
) -> Result<Draws, Error> {
    match target {
        Target::Numbers(y) => weightings.metric(&R2::new(scores.view(), y.view())?),
        Target::Classes { y, .. } => weightings.mean(&Classified::new(scores.view(), y)?.correct()),
    }
}

/// Means of the numbers that every seed has; of draws, of the first of every seed, of the second of every seed …
pub(super) fn mean_over_seeds(all: &[Named], groups: u64) -> Result<Named, Error> {
    let Some(first) = all.first() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (name, kind) in first {
        let same: Vec<&Number> =
            all.iter().filter_map(|n| n.iter().find(|(other, _)| other == name)).map(|(_, n)| n).collect();
        if same.len() < all.len() {
            continue;
        }
        let nth = |place: usize| -> Option<Result<Draws, Error>> {
            let one = |number: &&'_ Number| match number {
                Number::Plain(draws) => Some(draws.clone()),
                Number::Drawn(draws) => draws.get(place).cloned(),
            };
            let parts = same.iter().map(one).collect::<Option<Vec<_>>>()?;
            Some(Draws::mean(&parts, groups))
        };
        let number = match kind {
            Number::Plain(_) => nth(0).transpose()?.map(Number::Plain),
            Number::Drawn(_) => Some(Number::Drawn((0..).map_while(nth).collect::<Result<_, _>>()?)),
        };
        out.extend(number.map(|number| (name.clone(), number)));
    }
    Ok(out)
}

/// A row of `metrics.parquet`.
pub(in crate::probe) fn row(
    subject: &Subject,
    kind: RowKind,
    point: (&str, i32),
    metric: &str,
    draws: &Draws,
) -> MetricRow {
    row_of(subject, kind, point, metric, draws.estimate())
}

/// The same of a number whose interval is known.
pub(super) fn row_of(
    subject: &Subject,
    kind: RowKind,
    (hook, layer): (&str, i32),
    metric: &str,
    estimate: Estimate,
) -> MetricRow {
    let unit = match metric {
        "nll" => "nats",
        "compression" | "shuffled_compression" | "compression_less_shuffled" => "ratio",
        "tied_with_best" => "flag",
        "p_value" | "p_value_corrected" => "probability",
        _ if metric.starts_with("brier") => "score",
        _ => "share",
    };
    MetricRow {
        subject: subject.clone(),
        kind,
        hook: hook.into(),
        layer,
        horizon: 0,
        ..MetricRow::of(metric, unit, estimate)
    }
}
