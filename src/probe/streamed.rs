//! Closed-form probes of a corpus whose states would not fit on disk: one pass over the texts sums their moments, later ones
//! choose penalties and score. Memory is a `d × d` Gram matrix per point, split and labelling, and the scores of test items.

use std::ops::Range;

use layerscope_probes::{Error, Moments, Probe as _, Standardise, score::Classified};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::{
    Cell, Estimator, Fitted, Options, ProbeError, Reading, Round, Target, Task,
    estimator::of_moments,
    features::{Reader, columns},
    labelling::{Labelling, Labellings},
};
use crate::{hook::HookPoint, labelled::Plan, model::Model};

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
}

/// The part of a split that an item is in, and its place there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train(usize),
    Validation(usize),
    Test(usize),
}

/// One split at one point.
struct Place {
    /// Of the training part with the true labels, the control task's and shuffled ones.
    sums: [Option<Moments>; 3],
    /// Whether the states of the training part do not vary.
    constant: bool,
    work: Vec<Work>,
}

/// One estimator there.
struct Work {
    estimator: Estimator,
    /// One for each penalty, then the chosen one alone.
    fitted: Vec<Fitted>,
    /// How each does on the validation part, then the chosen one on the training part; see [`goodness`].
    goodness: Vec<f64>,
    /// The same fitted to the control task's labels and to shuffled ones.
    others: [Option<Fitted>; 2],
    scores: Array2<f64>,
    /// 1 where the others are right, per test item.
    right: [Vec<f64>; 2],
}

impl Stream<'_> {
    /// Cells by point, then split: those of states on disk, up to rounding. `watch` hears of tokens and says whether to stop.
    ///
    /// # Errors
    /// As [`super::extract`] and [`super::run_cell`]; [`ProbeError::Probe`] for an estimator without a closed form.
    pub fn cells(&self, watch: &mut dyn FnMut(usize) -> bool) -> Result<Vec<Vec<Cell>>, ProbeError> {
        let labels = self.rounds.iter().map(|round| Labellings::new(self.task, round));
        let labels = labels.collect::<Result<Vec<_>, _>>().map_err(ProbeError::at("labels"))?;
        let mut places = self.empty(&labels);
        self.pass(&mut places, watch, &|p| matches!(p, Part::Train(_)), &|place, round, batch| {
            place.sum(&labels[round], batch)
        })?;
        self.each(&mut places, &|place, _| place.fit(self.estimators, self.options))?;
        if self.estimators.iter().any(|e| e.has_penalty()) {
            self.pass(&mut places, watch, &|p| matches!(p, Part::Validation(_)), &|place, round, batch| {
                let target = &self.task.target;
                place.validate(target, &self.rounds[round].validation, batch)
            })?;
        }
        self.each(&mut places, &|place, round| {
            place.choose(&labels[round], self.options, self.rounds[round].test.len())
        })?;
        self.pass(&mut places, watch, &|p| !matches!(p, Part::Validation(_)), &|place, round, batch| {
            place.test(&labels[round], batch)
        })?;
        let cell = |(round, place): (usize, Place)| place.cell(&labels[round].truth);
        Ok(places.into_iter().map(|rounds| rounds.into_iter().enumerate().map(cell).collect()).collect())
    }

    /// Nothing summed yet, by point, then split.
    fn empty(&self, labels: &[Labellings]) -> Vec<Vec<Place>> {
        let sums = |labels: &Labelling, d: usize| match &labels.train {
            Target::Classes { names, .. } => Moments::of_classes(d, names.len()),
            Target::Numbers(y) => Moments::of_numbers(d, y.ncols()),
        };
        let place = |labels: &Labellings, d: usize| Place {
            sums: labels.all().map(|labels| labels.map(|labels| sums(labels, d))),
            constant: false,
            work: Vec::new(),
        };
        let of = |(_, d): (HookPoint, usize)| labels.iter().map(|labels| place(labels, d)).collect();
        columns(self.model.spec(), self.points).into_iter().map(of).collect()
    }

    /// Runs the texts with an item of a part that is `wanted`, and hands its rows to every point and split.
    fn pass(
        &self,
        places: &mut [Vec<Place>],
        watch: &mut dyn FnMut(usize) -> bool,
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
        reader.each(&has, watch, &mut |items: &[Range<usize>], rows| {
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

impl Place {
    fn sum(&mut self, labels: &Labellings, batch: &Batch<'_>) -> Result<(), Error> {
        let (x, places) = batch.of(train);
        for (sums, labels) in self.sums.iter_mut().zip(labels.all()) {
            if let (Some(sums), Some(labels)) = (sums, labels) {
                sums.add(x.view(), Some(&labels.train.select(&places).labels()))?;
            }
        }
        Ok(())
    }

    /// With the true labels, for every penalty from the largest down.
    fn fit(&mut self, estimators: &[Estimator], options: &Options) -> Result<(), Error> {
        let Some(sums) = &self.sums[0] else { return Err(Error::Empty) };
        self.constant = Standardise::of_moments(sums)?.is_constant();
        let mut l2 = options.l2.clone();
        l2.sort_by(|a, b| b.total_cmp(a));
        for &estimator in estimators {
            let fitted = of_moments(estimator, sums, options, &l2)?;
            let goodness = vec![0.0; fitted.len()];
            let (others, right) = ([None, None], [Vec::new(), Vec::new()]);
            self.work.push(Work {
                estimator,
                fitted,
                goodness,
                others,
                scores: Array2::zeros((0, 0)),
                right,
            });
        }
        Ok(())
    }

    fn validate(&mut self, target: &Target, items: &[usize], batch: &Batch<'_>) -> Result<(), Error> {
        let (x, places) = batch.of(validation);
        let items: Vec<usize> = places.iter().map(|place| items[*place]).collect();
        let target = target.select(&items);
        for work in self.work.iter_mut().filter(|work| work.estimator.has_penalty()) {
            for (sum, fitted) in work.goodness.iter_mut().zip(&work.fitted) {
                *sum += goodness(&fitted.linear.scores(x.view())?, &target)?;
            }
        }
        Ok(())
    }

    /// Keeps the best penalty, of equals the largest, and fits with it to the other labels.
    fn choose(&mut self, labels: &Labellings, options: &Options, n_test: usize) -> Result<(), Error> {
        for work in &mut self.work {
            let best = (1..work.goodness.len())
                .fold(0, |best, i| if work.goodness[i] > work.goodness[best] { i } else { best });
            let chosen = work.fitted.swap_remove(best);
            let l2: Vec<f64> = chosen.l2.into_iter().collect();
            for (place, labels) in labels.all().into_iter().skip(1).enumerate() {
                let (Some(labels), Some(sums)) = (labels, &self.sums[place + 1]) else { continue };
                if labels.fits(work.estimator, false) {
                    work.others[place] = Some(of_moments(work.estimator, sums, options, &l2)?.remove(0));
                    work.right[place] = vec![0.0; n_test];
                }
            }
            let k = labels.truth.train.n_classes().unwrap_or(1);
            (work.fitted, work.goodness) = (vec![chosen], vec![0.0]);
            work.scores = Array2::zeros((n_test, k));
        }
        self.sums = [None, None, None];
        Ok(())
    }

    fn test(&mut self, labels: &Labellings, batch: &Batch<'_>) -> Result<(), Error> {
        let ((train_x, trained), (x, places)) = (batch.of(train), batch.of(test));
        let target = labels.truth.train.select(&trained);
        for work in &mut self.work {
            let probe = &work.fitted[0].linear;
            work.goodness[0] += goodness(&probe.scores(train_x.view())?, &target)?;
            for (row, place) in probe.scores(x.view())?.outer_iter().zip(&places) {
                work.scores.row_mut(*place).assign(&row);
            }
            for (other, labels) in [&labels.control, &labels.shuffled].into_iter().enumerate() {
                let (Some(probe), Some(labels)) = (&work.others[other], labels) else { continue };
                if places.is_empty() {
                    continue;
                }
                let scores = probe.linear.scores(x.view())?;
                let found = Classified::new(scores.view(), &vec![0; scores.nrows()])?;
                for (found, place) in found.predicted().iter().zip(&places) {
                    work.right[other][*place] = labels.right(*found, *place);
                }
            }
        }
        Ok(())
    }

    fn cell(self, truth: &Labelling) -> Cell {
        let reading = |work: Work| {
            let Work { estimator, mut fitted, goodness, scores, others, right } = work;
            let [control, shuffled] = right;
            let reading = Reading {
                fitted: fitted.swap_remove(0),
                scores,
                train: share(goodness[0], &truth.train),
                constant: self.constant,
                control: others[0].as_ref().map(|_| control),
                shuffled: others[1].as_ref().map(|_| shuffled),
                bits: None,
                permuted: None,
            };
            (estimator, reading)
        };
        Cell { readings: self.work.into_iter().map(reading).collect() }
    }
}

/// What adds up over batches: the number that are right, or minus the squared error of numbers.
fn goodness(scores: &Array2<f64>, target: &Target) -> Result<f64, Error> {
    match target {
        _ if scores.nrows() == 0 => Ok(0.0),
        Target::Classes { y, .. } => Ok(Classified::new(scores.view(), y)?.correct().iter().sum()),
        Target::Numbers(y) => Ok(-(scores - y).mapv(|error| error * error).sum()),
    }
}

/// The sum of [`goodness`] over all items as accuracy or R².
fn share(goodness: f64, target: &Target) -> f64 {
    match target {
        Target::Classes { y, .. } => goodness / y.len() as f64,
        Target::Numbers(y) => {
            let mean = y.mean().unwrap_or(0.0);
            1.0 + goodness / y.mapv(|y| (y - mean) * (y - mean)).sum()
        }
    }
}
