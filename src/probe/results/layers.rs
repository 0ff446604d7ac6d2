//! The best layer: which cannot be told from it, what is left of its value after the choice, and the value of a layer
//! that was chosen on other rows.

use layerscope_probes::{Best, Draws, Error, Estimate, best, chosen};

use super::{
    super::{Estimator, ProbeError, Reading},
    Measured, compared_by,
    numbers::{compared, row, row_of},
    seeds::{Seed, Seeds},
};
use crate::results::run::{MetricRow, RowKind};

/// What layers are compared by, at one layer.
pub(super) struct At {
    /// Of the point.
    pub(super) place: usize,
    pub(super) layer: usize,
    pub(super) draws: Draws,
    pub(super) converged: bool,
}

/// The layers of an estimator on a hook.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The estimator.
    pub estimator: Estimator,
    /// The hook.
    pub hook: String,
    /// `accuracy` or `r2`.
    pub metric: &'static str,
    /// The layers, ascending.
    pub layers: Vec<usize>,
    /// Which layer each split's validation part chose, and what it is worth on the test part: the number to quote. None
    /// where numbers of a validation part do not vary.
    pub nested: Option<Nested>,
    /// Which of them is best on the test part, which cannot be told from it, and what is left of its value after the
    /// choice.
    pub best: Best,
    /// Whether every fit came to its end.
    pub converged: bool,
}

/// Layers chosen on validation rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// The layers that were chosen, and in how many splits; the most frequent first.
    pub chosen: Vec<(usize, usize)>,
    /// On the test parts, the mean over seeds.
    pub test: Estimate,
}

impl Summary {
    pub(super) fn new(
        (estimator, hook): (Estimator, &str),
        layers: &[At],
        measured: &Measured<'_>,
        seeds: &Seeds,
    ) -> Result<Self, ProbeError> {
        let at = || ProbeError::at(format!("best layer of {}", estimator.name()));
        let draws: Vec<Draws> = layers.iter().map(|at| at.draws.clone()).collect();
        Ok(Self {
            estimator,
            hook: hook.to_owned(),
            metric: compared_by(&measured.task.target),
            layers: layers.iter().map(|at| at.layer).collect(),
            nested: nested(estimator, layers, measured, seeds).map_err(at())?,
            best: best(&draws).map_err(at())?,
            converged: layers.iter().all(|at| at.converged),
        })
    }

    /// The chosen layer's and the best one's value, and for every layer whether it is tied with the best.
    pub(super) fn rows(&self, layers: &[At]) -> Vec<MetricRow> {
        let (name, hook) = (self.estimator.name(), self.hook.as_str());
        let tied = |(place, at): (usize, &At)| {
            let value = at.draws.alone(f64::from(u8::from(self.best.tied[place])), "a verdict");
            row(&name.into(), RowKind::Probe, (hook, at.layer as i32), "tied_with_best", &value)
        };
        let mut rows: Vec<MetricRow> = layers.iter().enumerate().map(tied).collect();
        for pair in layers.windows(2) {
            // Layers are read at the same items, so that their difference has an interval of its own.
            if let Ok(step) = pair[1].draws.minus(&pair[0].draws) {
                let at = (hook, pair[1].layer as i32);
                let step =
                    row(&name.into(), RowKind::Difference, at, &format!("{}_step", self.metric), &step);
                rows.push(MetricRow { source_layer: Some(pair[0].layer as i32), ..step });
            }
        }
        if let Some(Nested { chosen, test }) = &self.nested {
            let metric = format!("nested_{}", self.metric);
            rows.extend(chosen.first().map(|(layer, _)| {
                row_of(&name.into(), RowKind::Probe, (hook, *layer as i32), &metric, *test)
            }));
        }
        let at = (hook, self.layers[self.best.place] as i32);
        rows.push(row_of(
            &name.into(),
            RowKind::Probe,
            at,
            &format!("best_{}", self.metric),
            self.best.corrected,
        ));
        rows
    }
}

/// Every split chooses the layer whose probe does best on its validation part; the chosen probes' scores of the test
/// parts are measured as any one probe's.
fn nested(
    estimator: Estimator,
    layers: &[At],
    measured: &Measured<'_>,
    seeds: &Seeds,
) -> Result<Option<Nested>, Error> {
    let reading = |layer: usize, round: usize| -> &Reading {
        &measured.cells[layers[layer].place][round].readings[&estimator]
    };
    let choose = |round: usize| {
        let values: Vec<f64> = (0..layers.len()).map(|layer| reading(layer, round).validation).collect();
        chosen(&values)
    };
    let choices: Vec<Option<usize>> = (0..measured.rounds.len()).map(choose).collect();
    let of_seed = |seed: &Seed| -> Option<Result<Draws, Error>> {
        let scores = seed.scores(|round| Some(reading(choices[round]?, round)))?;
        Some(compared(&seed.task.target, &seed.weightings, &scores))
    };
    let Some(all) = seeds.of.iter().map(of_seed).collect::<Option<Result<Vec<_>, _>>>().transpose()? else {
        return Ok(None);
    };
    let test = Draws::mean(&all, seeds.groups)?;
    let counts = layers
        .iter()
        .enumerate()
        .map(|(place, at)| (at.layer, choices.iter().filter(|choice| **choice == Some(place)).count()));
    let mut chosen: Vec<(usize, usize)> = counts.filter(|(_, count)| *count > 0).collect();
    chosen.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(test.value.is_finite().then(|| Nested { chosen, test: test.estimate() }))
}
