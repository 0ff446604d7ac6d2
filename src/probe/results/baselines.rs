//! The baselines' numbers, as rows.

use layerscope_probes::{Draws, Error};
use ndarray::{Array2, Axis, concatenate};

use super::{
    super::baseline::Baseline,
    Measured,
    numbers::{Named, Number, mean_over_seeds, metrics, row_of},
    seeds::{Seed, Seeds},
};
use crate::results::run::{MetricRow, RowKind};

/// Layer of what reads no layer.
const NO_LAYER: i32 = -1;

/// Accuracy of the commonest class on the test items, the mean over seeds; none of numbers.
pub(super) fn majority(measured: &Measured<'_>, seeds: &Seeds) -> Result<Option<Draws>, Error> {
    let of_seed = |seed: &Seed| -> Option<Result<Draws, Error>> {
        let mut correct = Vec::new();
        for round in &seed.rounds {
            let baseline = measured.baselines.get(*round)?.iter().find(|b| b.name == "majority")?;
            correct.extend(&baseline.correct);
        }
        (correct.len() == seed.task.len()).then(|| seed.weightings.mean(&correct))
    };
    let all = seeds.of.iter().map(of_seed).collect::<Option<Result<Vec<_>, _>>>().transpose()?;
    all.map(|all| Draws::mean(&all, seeds.groups)).transpose()
}

pub(super) fn baseline_rows(measured: &Measured<'_>, seeds: &Seeds) -> Result<Vec<MetricRow>, Error> {
    let mut rows = Vec::new();
    let Some(first) = measured.baselines.first() else { return Ok(rows) };
    for (place, baseline) in first.iter().enumerate() {
        let mut all: Vec<Named> = Vec::new();
        for seed in &seeds.of {
            let parts: Vec<&Baseline> = seed.rounds.iter().map(|r| &measured.baselines[*r][place]).collect();
            let scores: Option<Vec<_>> = parts.iter().map(|b| b.scores.as_ref().map(Array2::view)).collect();
            let numbers = if let Some(scores) = scores {
                let scores = concatenate(Axis(0), &scores).map_err(|_| Error::Empty)?;
                metrics(&seed.task.target, &seed.weightings, &scores)?
            } else {
                let correct: Vec<f64> = parts.iter().flat_map(|b| b.correct.iter().copied()).collect();
                vec![("accuracy".to_owned(), seed.weightings.mean(&correct)?)]
            };
            all.push(numbers.into_iter().map(|(name, draws)| (name, Number::Plain(draws))).collect());
        }
        for (metric, number) in mean_over_seeds(&all, seeds.groups)? {
            let name = if baseline.name == "majority" { format!("majority_{metric}") } else { metric };
            rows.push(row_of(
                &baseline.name.into(),
                RowKind::Baseline,
                ("none", NO_LAYER),
                &name,
                number.estimate()?,
            ));
        }
    }
    Ok(rows)
}
