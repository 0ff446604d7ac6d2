//! What a probe found elsewhere is worth: fitted on one set and tested on another, fitted at one layer and read at
//! another.

use layerscope_probes::{
    Draws, Error, Intervals, Probe as _, Weightings,
    score::{Classified, R2},
};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::{
    Estimator, Features, Fitted, Options, ProbeError, Round, Target, Task, estimator::Prepared,
    features::side_by_side, results::row,
};
use crate::results::run::{MetricRow, Parts, RowKind, Subject};
use crate::watch::Underway;

/// A labelled set with its states and its split.
pub struct Set<'a> {
    /// What it is called in `metrics.parquet`.
    pub name: &'a str,
    /// Labels, groups.
    pub task: &'a Task,
    /// Fitted on its training part, tested on its test part.
    pub round: &'a Round,
    /// States at every point, of both sides of pairs.
    pub features: &'a [Features],
}

/// Every set's probe on every set's test part (kind `generalisation`, subject `probe:A>B`), at each of `points`; and
/// within a set every layer's probe on every other layer of the same hook (kind `probe-transfer`, `source_layer` is the
/// probe's). All sets have the same classes. `stage` counts every point of a set twice.
///
/// # Errors
/// [`ProbeError`] naming the place.
pub fn transfer(
    sets: &[Set<'_>],
    points: &[(String, usize)],
    estimator: Estimator,
    options: &Options,
    intervals: Intervals,
    stage: &Underway<'_>,
) -> Result<Vec<MetricRow>, ProbeError> {
    let places: Vec<(usize, usize)> =
        (0..sets.len()).flat_map(|set| (0..points.len()).map(move |p| (set, p))).collect();
    let at = |(set, place): (usize, usize)| {
        let (hook, layer) = &points[place];
        ProbeError::at(format!("{} of {} at {hook} {layer}", estimator.name(), sets[set].name))
    };
    let fitted: Vec<Fitted> = places
        .par_iter()
        .map(|&(set, place)| -> Result<Fitted, ProbeError> {
            stage.done(1)?;
            fit(&sets[set], place, estimator, options)?.map_err(at((set, place)))
        })
        .collect::<Result<_, _>>()?;
    let probe = |set: usize, place: usize| &fitted[set * points.len() + place];
    let tests: Vec<Vec<MetricRow>> = places
        .par_iter()
        .map(|&(set, place)| -> Result<Vec<MetricRow>, ProbeError> {
            let x = side_by_side(sets[set].features, place)?.select(Axis(0), &sets[set].round.test);
            let test = Test::new(&sets[set], x.view(), intervals).map_err(at((set, place)))?;
            let mut rows = Vec::new();
            for (from, source) in sets.iter().enumerate() {
                let subject = Subject::from(Parts::Set {
                    of: estimator.name().to_owned(),
                    trained_on: source.name.to_owned(),
                    tested_on: Some(sets[set].name.to_owned()),
                });
                let (hook, layer) = &points[place];
                for (metric, draws) in test.metrics(probe(from, place)).map_err(at((set, place)))? {
                    rows.push(row(&subject, RowKind::Generalisation, (hook, *layer as i32), metric, &draws));
                }
            }
            let (of, trained_on) = (estimator.name().to_owned(), sets[set].name.to_owned());
            let subject = Subject::from(Parts::Set { of, trained_on, tested_on: None });
            for (from, (hook, layer)) in
                points.iter().enumerate().filter(|(_, (hook, _))| *hook == points[place].0)
            {
                if let Some((metric, draws)) =
                    test.metrics(probe(set, from)).map_err(at((set, from)))?.first()
                {
                    let own =
                        row(&subject, RowKind::ProbeTransfer, (hook, points[place].1 as i32), metric, draws);
                    rows.push(MetricRow { source_layer: Some(*layer as i32), ..own });
                }
            }
            stage.done(1)?;
            Ok(rows)
        })
        .collect::<Result<_, _>>()?;
    Ok(tests.concat())
}

/// The probe of one set at one point.
fn fit(
    set: &Set<'_>,
    place: usize,
    estimator: Estimator,
    options: &Options,
) -> Result<Result<Fitted, Error>, ProbeError> {
    let x = side_by_side(set.features, place)?;
    let part = |rows: &[usize]| (x.select(Axis(0), rows), set.task.select(rows));
    let ((train_x, train), (validation_x, validation)) =
        (part(&set.round.train), part(&set.round.validation));
    let chosen = (validation_x.view(), &validation.labels());
    Ok(Prepared::new(train_x, options).choose(estimator, &train.labels(), chosen))
}

/// A test part.
struct Test<'a> {
    x: ArrayView2<'a, f32>,
    task: Task,
    weightings: Weightings,
}

impl<'a> Test<'a> {
    fn new(set: &Set<'_>, x: ArrayView2<'a, f32>, intervals: Intervals) -> Result<Self, Error> {
        let task = set.task.select(&set.round.test);
        let weightings = Weightings::new(&task.groups, intervals)?;
        Ok(Self { x, task, weightings })
    }

    /// Accuracy and AUROC, or R², where they are defined.
    fn metrics(&self, fitted: &Fitted) -> Result<Vec<(&'static str, Draws)>, Error> {
        let scores = fitted.linear.scores(self.x)?;
        Ok(match &self.task.target {
            Target::Numbers(y) => {
                let r2 = self.weightings.metric(&R2::new(scores.view(), y.view())?)?;
                r2.value.is_finite().then_some(("r2", r2)).into_iter().collect()
            }
            Target::Classes { y, .. } => {
                let classified = Classified::new(scores.view(), y)?;
                let auroc = self.weightings.metric(&classified.auroc())?;
                let mut all = vec![("accuracy", self.weightings.mean(&classified.correct())?)];
                all.extend(auroc.value.is_finite().then_some(("auroc", auroc)));
                all
            }
        })
    }
}
