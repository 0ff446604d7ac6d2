//! States, and a cell of every hook, layer and split.

use rayon::prelude::*;

use super::{Design, Sweep};
use crate::{
    job::{
        JobError, Session, Underway, Watch,
        probe::{ended, from_store, threads},
    },
    probe::{Cell, CellKey, Features, ProbeError, Stream, run_cell, side_by_side},
    states::store::ActivationStore,
};

impl Sweep {
    /// Reads the states from an export, or from the model; none that are there already.
    pub(super) fn states(
        &self,
        session: &Session,
        design: &Design,
        (features, store): (&[Features], Option<&ActivationStore>),
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        match store {
            None => self.labels.states(session, &[(features, &design.labelled)], watch),
            Some(_) if features[0].complete() => Ok(()),
            Some(store) => from_store(&features[0], store, &design.labelled, watch),
        }
    }

    /// Every cell, from passes over the texts.
    pub(super) fn streamed(
        &self,
        session: &Session,
        design: &Design,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Cell>>, JobError> {
        let stream = Stream {
            model: session.load(watch)?,
            plan: &design.labelled.sides[0].plan,
            task: &design.labelled.task,
            rounds: &design.rounds,
            points: &design.points,
            estimators: &design.estimators,
            options: &self.options(),
            batch_tokens: self.labels.batch_tokens(session),
            pool: &threads(session)?,
            draws: self.extras().draws,
        };
        stream.cells(&watch.begin("passes over the texts", "tokens", None)).map_err(ended)
    }

    /// Every cell by point, then split; those that an earlier run wrote are read.
    pub(super) fn cells(
        &self,
        session: &Session,
        design: &Design,
        features: &[Features],
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Cell>>, JobError> {
        let all: Vec<(usize, usize)> =
            (0..design.points.len()).flat_map(|p| (0..design.rounds.len()).map(move |r| (p, r))).collect();
        let stage = watch.begin("fitting", "cells", Some(all.len() as u64));
        let one = |&(place, number): &(usize, usize)| {
            let cell = self.cell(design, features, (place, number), &stage);
            stage.inc(u64::from(cell.is_ok()));
            cell
        };
        let done: Result<Vec<Cell>, ProbeError> =
            threads(session)?.install(|| all.par_iter().map(one).collect());
        let mut done = done.map_err(ended)?.into_iter();
        Ok(design.points.iter().map(|_| done.by_ref().take(design.rounds.len()).collect()).collect())
    }

    /// The cell of a point and a split, read where it is there.
    fn cell(
        &self,
        design: &Design,
        features: &[Features],
        (place, number): (usize, usize),
        stage: &Underway<'_>,
    ) -> Result<Cell, ProbeError> {
        let (hook, layer) = features[0].name(place);
        let round = &design.rounds[number];
        let key = CellKey { hook: hook.into(), layer, seed: round.seed, fold: round.fold };
        let path = key.path(&self.out);
        if let Some(cell) = Cell::read(&path, &design.estimators)? {
            return Ok(cell);
        }
        stage.go_on()?;
        let x = side_by_side(features, place)?;
        let extras = if number == 0 { self.extras() } else { self.extras().of_later_splits() };
        let (task, options) = (&design.labelled.task, self.options());
        let cell = run_cell((&key, x.view()), task, round, &design.estimators, &options, extras)?;
        cell.write(&path)?;
        Ok(cell)
    }
}
