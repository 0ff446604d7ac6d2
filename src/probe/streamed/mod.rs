//! Closed-form probes of a corpus whose states would not fit on disk: one pass over the texts sums their moments, later
//! ones choose penalties and layers, and score. Memory is a `d × d` Gram matrix per point and split, a row per class of
//! every other labelling, the scores of test items, and which items of the fit are right.

mod place;

use std::ops::Range;

use layerscope_probes::Error;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use self::place::Place;
use super::{
    Cell, Estimator, Options, ProbeError, Round, Task,
    features::{Reader, columns},
    labelling::Labellings,
};
use crate::{hook::HookPoint, model::Model, sources::labelled::Plan, watch::Underway};

/// What to stream.
pub struct Stream<'a> {
    /// Runs the texts, once for each pass.
    pub model: &'a Model,
    /// The texts and their items.
    pub plan: &'a Plan,
    /// The items' labels.
    pub task: &'a Task,
    /// The splits.
    pub rounds: &'a [Round],
    /// Where states are read.
    pub points: &'a [HookPoint],
    /// Closed-form ones ([`Estimator::closed_form`]).
    pub estimators: &'a [Estimator],
    /// Penalties and z-scores.
    pub options: &'a Options,
    /// Most tokens in a forward pass.
    pub batch_tokens: usize,
    /// Threads for what is summed, fitted and scored between forward passes.
    pub pool: &'a rayon::ThreadPool,
    /// Draws of the control task's labels, and of shuffled ones.
    pub draws: usize,
}

/// The part of a split that an item is in, and its place there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train(usize),
    Validation(usize),
    Test(usize),
}

impl Stream<'_> {
    /// Cells by point, then split: those of states on disk, up to rounding. `stage` counts the tokens of all passes.
    ///
    /// # Errors
    /// As [`super::extract`] and [`super::run_cell`]; [`ProbeError::Probe`] for an estimator without a closed form.
    pub fn cells(&self, stage: &Underway<'_>) -> Result<Vec<Vec<Cell>>, ProbeError> {
        let labels = self.rounds.iter().map(|round| Labellings::new(self.task, round, self.draws));
        let labels = labels.collect::<Result<Vec<_>, _>>().map_err(ProbeError::at("labels"))?;
        let mut places = self.empty(&labels);
        self.pass(&mut places, stage, &|p| matches!(p, Part::Train(_)), &|place, round, batch| {
            place.sum(&labels[round], batch)
        })?;
        self.each(&mut places, &|place, _| place.fit(self.estimators, self.options))?;
        self.pass(&mut places, stage, &|p| matches!(p, Part::Validation(_)), &|place, round, batch| {
            let target = &self.task.target;
            place.validate(target, &self.rounds[round].validation, batch)
        })?;
        self.each(&mut places, &|place, round| {
            place.choose(&labels[round], self.options, self.rounds[round].test.len())
        })?;
        self.pass(&mut places, stage, &|p| !matches!(p, Part::Validation(_)), &|place, round, batch| {
            place.test(&labels[round], batch)
        })?;
        let cell = |(round, place): (usize, Place)| {
            place.cell(&labels[round], &self.task.target.select(&self.rounds[round].validation))
        };
        Ok(places.into_iter().map(|rounds| rounds.into_iter().enumerate().map(cell).collect()).collect())
    }

    /// Nothing summed yet, by point, then split.
    fn empty(&self, labels: &[Labellings]) -> Vec<Vec<Place>> {
        let of = |(_, d): (HookPoint, usize)| labels.iter().map(|labels| Place::new(labels, d)).collect();
        columns(self.model.spec(), self.points).into_iter().map(of).collect()
    }

    /// Runs the texts with an item of a part that is `wanted`, and hands its rows to every point and split.
    fn pass(
        &self,
        places: &mut [Vec<Place>],
        stage: &Underway<'_>,
        wanted: &dyn Fn(Part) -> bool,
        take: &(dyn Fn(&mut Place, usize, &Batch<'_>) -> Result<(), Error> + Sync),
    ) -> Result<(), ProbeError> {
        let parts: Vec<Vec<Option<Part>>> = self.rounds.iter().map(|r| parts(r, self.task.len())).collect();
        let parts: Vec<Vec<Option<Part>>> = parts
            .into_iter()
            .map(|all| all.into_iter().map(|p| p.filter(|p| wanted(*p))).collect())
            .collect();
        let has = |window: usize| {
            let items = self.plan.items_of(window as u32);
            parts.iter().any(|parts| parts[items.clone()].iter().any(Option::is_some))
        };
        let columns = columns(self.model.spec(), self.points);
        let reader =
            Reader { model: self.model, plan: self.plan, columns: &columns, batch_tokens: self.batch_tokens };
        reader.each(&has, stage, &mut |items: &[Range<usize>], rows| {
            let items: Vec<usize> = items.iter().cloned().flatten().collect();
            let columns = &columns;
            let one = |(column, rounds): (usize, &mut Vec<Place>)| {
                let (point, d) = columns[column];
                let at = || ProbeError::at(point.to_string());
                let shape = |e: ndarray::ShapeError| crate::model::ModelError::Input(e.to_string());
                let x = ArrayView2::from_shape((items.len(), d), &rows[column]).map_err(shape)?;
                for (round, place) in rounds.iter_mut().enumerate() {
                    let batch = Batch { x, items: &items, parts: &parts[round] };
                    take(place, round, &batch).map_err(at())?;
                }
                Ok(())
            };
            self.pool.install(|| places.par_iter_mut().enumerate().try_for_each(one))
        })
    }

    /// Does something to every point and split.
    fn each(
        &self,
        places: &mut [Vec<Place>],
        act: &(dyn Fn(&mut Place, usize) -> Result<(), Error> + Sync),
    ) -> Result<(), ProbeError> {
        let (points, seeds) = (self.points, self.rounds);
        let one = |(column, rounds): (usize, &mut Vec<Place>)| {
            let name = |round: usize| format!("{}, seed {}", points[column], seeds[round].seed);
            let act = |(round, place)| act(place, round).map_err(ProbeError::at(name(round)));
            rounds.iter_mut().enumerate().try_for_each(act)
        };
        self.pool.install(|| places.par_iter_mut().enumerate().try_for_each(one))
    }
}

/// States of some items `(m, d)`.
struct Batch<'a> {
    x: ArrayView2<'a, f32>,
    items: &'a [usize],
    /// By item of the whole task, where it is wanted.
    parts: &'a [Option<Part>],
}

impl Batch<'_> {
    /// Rows of one part, and their places in it.
    fn of(&self, part: fn(Part) -> Option<usize>) -> (Array2<f32>, Vec<usize>) {
        let found = |(row, item): (usize, &usize)| Some((row, part(self.parts[*item]?)?));
        let (rows, places): (Vec<_>, Vec<_>) = self.items.iter().enumerate().filter_map(found).unzip();
        (self.x.select(Axis(0), &rows), places)
    }
}

fn train(part: Part) -> Option<usize> {
    if let Part::Train(place) = part { Some(place) } else { None }
}

fn validation(part: Part) -> Option<usize> {
    if let Part::Validation(place) = part { Some(place) } else { None }
}

fn test(part: Part) -> Option<usize> {
    if let Part::Test(place) = part { Some(place) } else { None }
}

/// The part of every item.
fn parts(round: &Round, n: usize) -> Vec<Option<Part>> {
    let mut all = vec![None; n];
    let mut put = |items: &[usize], part: fn(usize) -> Part| {
        items.iter().enumerate().for_each(|(place, item)| all[*item] = Some(part(place)));
    };
    put(&round.train, Part::Train);
    put(&round.validation, Part::Validation);
    put(&round.test, Part::Test);
    all
}
