//! From cells to rows of `metrics.parquet`.
//!
//! A number is the mean over the seeds of the splits; within a seed folds are put together. Intervals resample groups: a
//! group has the same weight in every seed, layer, control and baseline, so that differences are paired.

use std::collections::BTreeMap;

use layerscope_probes::{
    Best, Bootstrap, Draws, Error, Resamples, best, max_p_values, p_value,
    score::{Classified, Metric as _, R2},
    selectivity,
};
use ndarray::{Array2, Axis, concatenate};

use super::{Estimator, ProbeError, Round, Target, Task, baseline::Baseline, cell::Cell};
use crate::run::MetricRow;

/// Layer of what reads no layer.
const NO_LAYER: i32 = -1;

/// The best layer of an estimator on a hook.
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
    /// Which of them is best, which cannot be told from it, and what is left of its value after the choice.
    pub best: Best,
    /// Whether every fit came to its end.
    pub converged: bool,
}

/// Everything measured.
pub struct Measured<'a> {
    /// The items.
    pub task: &'a Task,
    /// The splits, in order.
    pub rounds: &'a [Round],
    /// Hook and layer of every point.
    pub points: &'a [(String, usize)],
    /// Cells by point, then split.
    pub cells: &'a [Vec<Cell>],
    /// Baselines by split.
    pub baselines: &'a [Vec<Baseline>],
    /// The estimators.
    pub estimators: &'a [Estimator],
    /// Of the intervals.
    pub resamples: Resamples,
}

/// Every number with its interval, and the best layers.
///
/// # Errors
/// [`ProbeError::Probe`].
pub fn results(measured: &Measured<'_>) -> Result<(Vec<MetricRow>, Vec<Summary>), ProbeError> {
    let seeds = Seeds::new(measured)?;
    let mut rows = baseline_rows(measured, &seeds).map_err(ProbeError::at("baselines"))?;
    let (mut summaries, compared) = (Vec::new(), compared_by(&measured.task.target));
    let mut tested = Vec::new();
    for &estimator in measured.estimators {
        let mut by_hook: BTreeMap<&str, Vec<At>> = BTreeMap::new();
        for (place, (hook, layer)) in measured.points.iter().enumerate() {
            let at = format!("{} at {hook} {layer}", estimator.name());
            let numbers = seeds.numbers(measured, place, estimator).map_err(ProbeError::at(at))?;
            for (metric, draws) in &numbers {
                rows.push(row(estimator.name(), "probe", (hook, *layer as i32), metric, draws));
            }
            let converged = measured.cells[place].iter().all(|c| c.readings[&estimator].fitted.converged);
            if let Some((_, draws)) = numbers.into_iter().find(|(metric, _)| *metric == compared) {
                by_hook.entry(hook).or_default().push(At { place, layer: *layer, draws, converged });
            }
        }
        for (hook, layers) in by_hook {
            let summary = summary(estimator, hook, &layers, measured.task)?;
            rows.extend(best_rows(&summary, &layers));
            summaries.push(summary);
            tested.extend(layers.into_iter().map(|at| (estimator, hook.to_owned(), at)));
        }
    }
    rows.extend(p_rows(measured, &tested).map_err(ProbeError::at("permutations"))?);
    Ok((rows, summaries))
}

/// Why a metric is missing that the task should have: the seeds whose test part has numbers that do not vary, and so no R².
pub fn undefined(task: &Task, rounds: &[Round]) -> Option<String> {
    let flat = |seed: &u64| {
        let items: Vec<usize> =
            rounds.iter().filter(|r| r.seed == *seed).flat_map(|r| r.test.iter().copied()).collect();
        let Target::Numbers(y) = task.target.select(&items) else { return false };
        R2::new(y.view(), y.view()).is_ok_and(|r2| !r2.point().is_finite())
    };
    let mut seeds: Vec<u64> = rounds.iter().map(|round| round.seed).collect();
    seeds.dedup();
    let flat: Vec<String> = seeds.iter().filter(|seed| flat(seed)).map(u64::to_string).collect();
    (!flat.is_empty()).then(|| {
        let one = if flat.len() == 1 { "" } else { "s" };
        format!("R² is left out: with seed{one} {} the numbers of the test part do not vary", flat.join(", "))
    })
}

/// What layers are compared by.
fn compared_by(target: &Target) -> &'static str {
    match target {
        Target::Classes { .. } => "accuracy",
        Target::Numbers(_) => "r2",
    }
}

/// What layers are compared by, at one layer.
struct At {
    /// Of the point.
    place: usize,
    layer: usize,
    draws: Draws,
    converged: bool,
}

/// The test items of every seed, folds one after the other, with their resamples.
struct Seeds {
    of: Vec<Seed>,
    /// Of all items, whatever the split.
    whole: Bootstrap,
    /// Different groups among all test items.
    groups: u64,
}

struct Seed {
    /// Its rounds.
    rounds: Vec<usize>,
    task: Task,
    bootstrap: Bootstrap,
}

impl Seeds {
    fn new(measured: &Measured<'_>) -> Result<Self, ProbeError> {
        let mut of: Vec<Seed> = Vec::new();
        let groups = measured.rounds.chunk_by(|a, b| a.seed == b.seed);
        let mut first = 0;
        for rounds in groups {
            let items: Vec<usize> = rounds.iter().flat_map(|r| r.test.iter().copied()).collect();
            let task = measured.task.select(&items);
            let bootstrap =
                Bootstrap::new(&task.groups, measured.resamples).map_err(ProbeError::at("resamples"))?;
            of.push(Seed { rounds: (first..first + rounds.len()).collect(), task, bootstrap });
            first += rounds.len();
        }
        let mut groups: Vec<u64> = of.iter().flat_map(|seed| seed.task.groups.iter().copied()).collect();
        groups.sort_unstable();
        groups.dedup();
        let whole = Bootstrap::new(&measured.task.groups, measured.resamples);
        Ok(Self { of, whole: whole.map_err(ProbeError::at("resamples"))?, groups: groups.len() as u64 })
    }

    /// The estimator's numbers at one point.
    fn numbers(
        &self,
        measured: &Measured<'_>,
        place: usize,
        estimator: Estimator,
    ) -> Result<Vec<(String, Draws)>, Error> {
        let mut all: Vec<Vec<(String, Draws)>> = Vec::new();
        for seed in &self.of {
            let readings: Vec<_> =
                seed.rounds.iter().map(|round| &measured.cells[place][*round].readings[&estimator]).collect();
            let scores: Vec<_> = readings.iter().map(|r| r.scores.view()).collect();
            let scores = concatenate(Axis(0), &scores).map_err(|_| Error::Empty)?;
            let mut numbers = metrics(&seed.task.target, &seed.bootstrap, &scores)?;
            let share = |of: &dyn Fn(&super::Reading) -> f64| {
                let value = readings.iter().map(|r| of(r)).sum::<f64>() / readings.len() as f64;
                seed.bootstrap.mean(&vec![0.0; seed.task.len()]).map(|like| constant(value, &like))
            };
            let train = share(&|r| r.train)?;
            if train.value.is_finite() {
                numbers.push((format!("train_{}", compared_by(&seed.task.target)), train));
            }
            numbers.push(("constant_states".into(), share(&|r| f64::from(u8::from(r.constant)))?));
            let joined = |of: fn(&super::Reading) -> Option<&Vec<f64>>| -> Option<Vec<f64>> {
                readings
                    .iter()
                    .map(|r| of(r))
                    .collect::<Option<Vec<_>>>()
                    .map(|parts| parts.into_iter().flatten().copied().collect())
            };
            if let Some(control) = joined(|r| r.control.as_ref()) {
                let control = seed.bootstrap.mean(&control)?;
                numbers.push(("selectivity".into(), selectivity(&numbers[0].1, &control)?));
                numbers.push(("control_accuracy".into(), control));
            }
            if let Some(shuffled) = joined(|r| r.shuffled.as_ref()) {
                numbers.push(("shuffled_accuracy".into(), seed.bootstrap.mean(&shuffled)?));
            }
            all.push(numbers);
        }
        let mut mean = mean_over_seeds(&all, self.groups);
        // Said where it is so.
        mean.retain(|(name, draws)| name != "constant_states" || draws.value > 0.0);
        mean.extend(self.compression(measured, place, estimator)?);
        Ok(mean)
    }

    /// The uniform code's length over the online code's, where it was measured.
    fn compression(
        &self,
        measured: &Measured<'_>,
        place: usize,
        estimator: Estimator,
    ) -> Result<Option<(String, Draws)>, Error> {
        let bits = measured.cells[place].iter().find_map(|cell| cell.readings[&estimator].bits.as_ref());
        let (Some(bits), Some(k)) = (bits, measured.task.n_classes()) else { return Ok(None) };
        let log2 = (k as f64).log2();
        Ok(Some(("compression".into(), self.whole.mean(bits)?.map(|mean| log2 / mean))))
    }
}

/// Every metric that a target has and that is defined.
pub(super) fn metrics(
    target: &Target,
    bootstrap: &Bootstrap,
    scores: &Array2<f64>,
) -> Result<Vec<(String, Draws)>, Error> {
    match target {
        Target::Numbers(y) => {
            let r2 = R2::new(scores.view(), y.view())?;
            Ok(defined([("r2".to_owned(), bootstrap.metric(&r2)?)]))
        }
        Target::Classes { y, .. } => {
            let all = Classified::new(scores.view(), y)?.metrics(bootstrap)?;
            Ok(defined(all.into_iter().map(|(name, draws)| (name.to_owned(), draws))))
        }
    }
}

/// Those that have a value: of one class there is no AUROC, of numbers that do not vary no R².
fn defined(all: impl IntoIterator<Item = (String, Draws)>) -> Vec<(String, Draws)> {
    all.into_iter().filter(|(_, draws)| draws.value.is_finite()).collect()
}

/// A number without resamples of its own.
fn constant(value: f64, like: &Draws) -> Draws {
    Draws { value, replicates: Vec::new(), ..like.clone() }
}

/// Means of the numbers that every seed has.
fn mean_over_seeds(all: &[Vec<(String, Draws)>], groups: u64) -> Vec<(String, Draws)> {
    let Some(first) = all.first() else { return Vec::new() };
    let mut out = Vec::new();
    for (name, _) in first {
        let same: Vec<&Draws> =
            all.iter().filter_map(|n| n.iter().find(|(other, _)| other == name)).map(|(_, d)| d).collect();
        if same.len() == all.len() {
            out.push((name.clone(), average(&same, groups)));
        }
    }
    out
}

/// The mean of numbers resampled alike, over the seeds that have a value in a resample: with few groups some draw none. Items
/// are those of all seeds together; `groups` are the different ones among them.
fn average(draws: &[&Draws], groups: u64) -> Draws {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, n) = values.filter(|x| x.is_finite()).fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
        sum / n
    };
    let replicates = draws.iter().map(|d| d.replicates.len()).min().unwrap_or(0);
    Draws {
        value: draws.iter().map(|d| d.value).sum::<f64>() / draws.len() as f64,
        replicates: (0..replicates).map(|r| mean(&mut draws.iter().map(|d| d.replicates[r]))).collect(),
        n: draws.iter().map(|d| d.n).sum(),
        n_clusters: groups,
    }
}

fn baseline_rows(measured: &Measured<'_>, seeds: &Seeds) -> Result<Vec<MetricRow>, Error> {
    let mut rows = Vec::new();
    let Some(first) = measured.baselines.first() else { return Ok(rows) };
    for (place, baseline) in first.iter().enumerate() {
        let mut all = Vec::new();
        for seed in &seeds.of {
            let parts: Vec<&Baseline> = seed.rounds.iter().map(|r| &measured.baselines[*r][place]).collect();
            let scores: Option<Vec<_>> = parts.iter().map(|b| b.scores.as_ref().map(Array2::view)).collect();
            all.push(if let Some(scores) = scores {
                metrics(
                    &seed.task.target,
                    &seed.bootstrap,
                    &concatenate(Axis(0), &scores).map_err(|_| Error::Empty)?,
                )?
            } else {
                let correct: Vec<f64> = parts.iter().flat_map(|b| b.correct.iter().copied()).collect();
                vec![("accuracy".to_owned(), seed.bootstrap.mean(&correct)?)]
            });
        }
        for (metric, draws) in mean_over_seeds(&all, seeds.groups) {
            let name = if baseline.name == "majority" { format!("majority_{metric}") } else { metric };
            rows.push(row(baseline.name, "baseline", ("none", NO_LAYER), &name, &draws));
        }
    }
    Ok(rows)
}

fn summary(estimator: Estimator, hook: &str, layers: &[At], task: &Task) -> Result<Summary, ProbeError> {
    let draws: Vec<Draws> = layers.iter().map(|at| at.draws.clone()).collect();
    let best = best(&draws).map_err(ProbeError::at(format!("best layer of {}", estimator.name())))?;
    Ok(Summary {
        estimator,
        hook: hook.to_owned(),
        metric: compared_by(&task.target),
        layers: layers.iter().map(|at| at.layer).collect(),
        best,
        converged: layers.iter().all(|at| at.converged),
    })
}

/// The best layer's corrected value, and for every layer whether it is tied with it.
fn best_rows(summary: &Summary, layers: &[At]) -> Vec<MetricRow> {
    let (name, hook) = (summary.estimator.name(), summary.hook.as_str());
    let tied = |(place, at): (usize, &At)| {
        let value = constant(f64::from(u8::from(summary.best.tied[place])), &at.draws);
        row(name, "probe", (hook, at.layer as i32), "tied_with_best", &value)
    };
    let mut rows: Vec<MetricRow> = layers.iter().enumerate().map(tied).collect();
    let corrected = summary.best.corrected;
    let at = (hook, summary.layers[summary.best.place] as i32);
    let one = row(name, "probe", at, &format!("best_{}", summary.metric), &layers[summary.best.place].draws);
    rows.push(MetricRow {
        estimate: corrected.estimate,
        lower: corrected.lower,
        upper: corrected.upper,
        ..one
    });
    rows
}

/// What permuted labels say: p of every probe, hook and layer, and p corrected for looking at all of them.
fn p_rows(measured: &Measured<'_>, tested: &[(Estimator, String, At)]) -> Result<Vec<MetricRow>, Error> {
    let values = |(estimator, hook, at): &(Estimator, String, At)| {
        let values = measured.cells[at.place].first()?.readings[estimator].permuted.clone()?;
        Some((estimator.name(), (hook.clone(), at.layer as i32), constant(f64::NAN, &at.draws), values))
    };
    let tested: Vec<_> = tested.iter().filter_map(values).collect();
    let Some((_, _, _, first)) = tested.first() else { return Ok(Vec::new()) };
    let observed: Vec<f64> = tested.iter().map(|(_, _, _, values)| values[0]).collect();
    let shape = (first.len() - 1, tested.len());
    let null = Array2::from_shape_fn(shape, |(permutation, test)| tested[test].3[permutation + 1]);
    let corrected = max_p_values(&observed, null.view())?;
    let mut rows = Vec::new();
    for (test, (name, (hook, layer), counts, values)) in tested.iter().enumerate() {
        let own = p_value(observed[test], &values[1..])?;
        for (metric, p) in [("p_value", own), ("p_value_corrected", corrected[test])] {
            rows.push(row(name, "probe", (hook, *layer), metric, &constant(p, counts)));
        }
    }
    Ok(rows)
}

pub(super) fn row(
    subject: &str,
    kind: &str,
    (hook, layer): (&str, i32),
    metric: &str,
    draws: &Draws,
) -> MetricRow {
    let unit = match metric {
        "nll" => "nats",
        "compression" => "ratio",
        "tied_with_best" => "flag",
        "p_value" | "p_value_corrected" => "probability",
        _ => "share",
    };
    MetricRow {
        subject: subject.into(),
        kind: kind.into(),
        hook: hook.into(),
        layer,
        horizon: 0,
        ..MetricRow::of(metric, unit, draws.estimate())
    }
}
