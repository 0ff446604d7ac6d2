//! The test items of every seed of a sweep, and a probe's numbers on them.

use std::collections::BTreeSet;

use layerscope_probes::{Draws, Error, Weightings, score::R2, selectivity};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::{
    super::{Estimator, ProbeError, Reading, Target, Task, cell::Cell},
    Measured, compared_by,
    numbers::{Named, Number, mean_over_seeds, metrics},
};

/// The test items of every seed, folds one after the other, with their resamples.
pub(super) struct Seeds {
    pub(super) of: Vec<Seed>,
    /// Of all items, whatever the split.
    whole: Weightings,
    /// Different groups among all test items.
    pub(super) groups: u64,
    /// The same among all items that were fitted to.
    fitted_groups: u64,
}

pub(super) struct Seed {
    /// Its rounds.
    pub(super) rounds: Vec<usize>,
    pub(super) task: Task,
    pub(super) weightings: Weightings,
    /// Of each round, the items that were fitted to.
    fitted: Vec<Fitted>,
}

/// The items that a split was fitted to.
struct Fitted {
    target: Target,
    weightings: Weightings,
}

impl Seeds {
    pub(super) fn new(measured: &Measured<'_>) -> Result<Self, ProbeError> {
        let whole = Weightings::new(&measured.task.groups, measured.intervals);
        let whole = whole.map_err(ProbeError::at("intervals"))?;
        let mut of: Vec<Seed> = Vec::new();
        let groups = measured.rounds.chunk_by(|a, b| a.seed == b.seed);
        let mut first = 0;
        for rounds in groups {
            let items: Vec<usize> = rounds.iter().flat_map(|r| r.test.iter().copied()).collect();
            let task = measured.task.select(&items);
            let weightings = whole.part(&task.groups).map_err(ProbeError::at("intervals"))?;
            let fitted = rounds.iter().map(|round| Fitted::new(&measured.task.select(&round.train), &whole));
            let fitted = fitted.collect::<Result<_, _>>().map_err(ProbeError::at("intervals"))?;
            of.push(Seed { rounds: (first..first + rounds.len()).collect(), task, weightings, fitted });
            first += rounds.len();
        }
        let groups = different(of.iter().flat_map(|seed| &seed.task.groups));
        let fitted = measured.rounds.iter().flat_map(|round| &round.train);
        let fitted_groups = different(fitted.map(|item| &measured.task.groups[*item]));
        Ok(Self { of, whole, groups, fitted_groups })
    }

    /// The estimator's numbers where these cells are, one for each split.
    pub(super) fn numbers(&self, cells: &[Cell], estimator: Estimator) -> Result<Named, Error> {
        let numbers = |seed: &Seed| {
            let readings: Vec<&Reading> =
                seed.rounds.iter().map(|round| &cells[*round].readings[&estimator]).collect();
            seed.numbers(&readings)
        };
        let all = self.of.iter().map(numbers).collect::<Result<Vec<_>, _>>()?;
        let mut mean = mean_over_seeds(&all, self.groups)?;
        for (name, number) in &mut mean {
            if let (true, Number::Plain(draws)) = (name.starts_with("train_"), number) {
                draws.n_clusters = self.fitted_groups;
            }
        }
        // Said where it is so.
        mean.retain(|(name, number)| {
            name != "constant_states" || matches!(number, Number::Plain(draws) if draws.value > 0.0)
        });
        mean.extend(self.compression(cells, estimator)?);
        Ok(mean)
    }

    /// The uniform code's length over the online code's, where it was measured, the same of shuffled labels, and the
    /// difference.
    fn compression(&self, cells: &[Cell], estimator: Estimator) -> Result<Named, Error> {
        let first = cells.iter().find_map(|cell| {
            let reading = &cell.readings[&estimator];
            Some((reading.code.as_ref()?, reading.scores.ncols()))
        });
        let Some((code, n_classes)) = first else { return Ok(Vec::new()) };
        let log2 = (n_classes as f64).log2();
        let each = |bits: &Array2<f64>| -> Result<Vec<Draws>, Error> {
            let one = |bits: ndarray::ArrayView1<'_, f64>| {
                Ok(self.whole.mean(&bits.to_vec())?.map(|mean| log2 / mean))
            };
            bits.outer_iter().map(one).collect()
        };
        let (own, shuffled) = (each(&code.bits)?, each(&code.shuffled)?);
        let less = own.iter().zip(&shuffled).map(|(own, shuffled)| own.minus(shuffled));
        let less = less.collect::<Result<Vec<_>, _>>()?;
        let all =
            [("compression", own), ("shuffled_compression", shuffled), ("compression_less_shuffled", less)];
        Ok(drawn(all))
    }
}

impl Seed {
    /// Of the readings of its splits.
    fn numbers(&self, readings: &[&Reading]) -> Result<Named, Error> {
        let joined = |of: fn(&Reading) -> &Array2<f64>, axis: usize| {
            let parts: Vec<ArrayView2<'_, f64>> = readings.iter().map(|r| of(r).view()).collect();
            concatenate(Axis(axis), &parts).map_err(|_| Error::Empty)
        };
        let target = &self.task.target;
        let measured = metrics(target, &self.weightings, &joined(|r| &r.scores, 0)?)?;
        let share = |why: &'static str, of: &dyn Fn(&Reading) -> f64| {
            let value = readings.iter().map(|r| of(r)).sum::<f64>() / readings.len() as f64;
            self.weightings.mean(&vec![0.0; self.task.len()]).map(|like| like.alone(value, why))
        };
        // A draw that gave all training items of a fold one label is left out.
        let each = |right: Array2<f64>| -> Result<Vec<Draws>, Error> {
            let known = right.outer_iter().filter(|right| right.iter().all(|x| x.is_finite()));
            known.map(|right| self.weightings.mean(&right.to_vec())).collect()
        };
        let (control, shuffled) = (each(joined(|r| &r.control, 1)?)?, each(joined(|r| &r.shuffled, 1)?)?);
        let selective = match measured.first() {
            Some((_, accuracy)) => {
                control.iter().map(|control| selectivity(accuracy, control)).collect::<Result<Vec<_>, _>>()?
            }
            None => Vec::new(),
        };
        let plain = |(name, draws): (String, Draws)| (name, Number::Plain(draws));
        let mut numbers: Named = measured.into_iter().map(plain).collect();
        let train =
            readings.iter().zip(&self.fitted).map(|(reading, fitted)| fitted.goodness(&reading.train));
        // Each group counts in every fold that it is fitted to in, as it does in every seed.
        let train = Draws::mean(&train.collect::<Result<Vec<_>, _>>()?, 0)?;
        if train.value.is_finite() {
            numbers.push(plain((format!("train_{}", compared_by(target)), train)));
        }
        numbers.push(plain((
            "constant_states".into(),
            share("a count of splits", &|r| f64::from(u8::from(r.constant)))?,
        )));
        let all =
            [("selectivity", selective), ("control_accuracy", control), ("shuffled_accuracy", shuffled)];
        numbers.extend(drawn(all));
        Ok(numbers)
    }

    /// The scores of the test items by the reading of each of its splits.
    pub(super) fn scores<'a>(&self, reading: impl Fn(usize) -> Option<&'a Reading>) -> Option<Array2<f64>> {
        let parts = self.rounds.iter().map(|round| Some(reading(*round)?.scores.view()));
        concatenate(Axis(0), &parts.collect::<Option<Vec<_>>>()?).ok()
    }
}

impl Fitted {
    fn new(task: &Task, whole: &Weightings) -> Result<Self, Error> {
        Ok(Self { target: task.target.clone(), weightings: whole.part(&task.groups)? })
    }

    /// Accuracy or R² of [`Reading::train`], the probe held fixed.
    fn goodness(&self, outcomes: &Array2<f64>) -> Result<Draws, Error> {
        match &self.target {
            Target::Classes { .. } => self.weightings.mean(&outcomes.iter().copied().collect::<Vec<_>>()),
            Target::Numbers(y) => self.weightings.metric(&R2::new(outcomes.view(), y.view())?),
        }
    }
}

/// How many different ids.
fn different<'a>(ids: impl Iterator<Item = &'a u64>) -> u64 {
    ids.collect::<BTreeSet<_>>().len() as u64
}

/// Those of which there is a draw.
fn drawn<const N: usize>(all: [(&str, Vec<Draws>); N]) -> Named {
    let some = all.into_iter().filter(|(_, draws)| !draws.is_empty());
    some.map(|(name, draws)| (name.to_owned(), Number::Drawn(draws))).collect()
}
