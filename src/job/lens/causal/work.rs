//! The two halves of `lens causal`: directions from the one, their effects on the other.

use super::{super::Lenses, Causal, Setup};
use crate::{
    job::{JobError, Source, Watch},
    lens::causal::{Ground, Measurement, Plan, Sample, grounds},
    lenses::{LayerIndex, Lens, Readout},
    model::Model,
    results::run::MetricRow,
    results::words::counted,
    sources::text::Window,
    sources::text::batches,
};

impl Setup {
    fn half(&self, places: &[usize]) -> Vec<&Window> {
        places.iter().map(|i| &self.text.windows[*i]).collect()
    }
}

impl Causal {
    /// Reads the first half and finds the directions of every layer.
    pub(super) fn plans(
        &self,
        source: &Source<'_>,
        (model, readout): (&Model, &Readout),
        lenses: &Lenses,
        setup: &Setup,
        watch: &dyn Watch,
    ) -> Result<Vec<Plan>, JobError> {
        let windows = setup.half(&setup.halves.moments);
        let grounds = self.grounds(source, model, &windows, setup, watch)?;
        let readers = |ground: &Ground| reading(&lenses.all, ground.layer);
        let searches = setup.k * grounds.iter().map(readers).sum::<usize>();
        let positions = grounds.first().map_or(0, |ground| ground.states.size()[0]);
        watch.note(&format!(
            "{} to find, on {} of {} in {}",
            counted(searches, "direction"),
            counted(positions, "position"),
            counted(tokens(&windows), "token"),
            counted(documents(&windows), "document")
        ));
        let stage = watch.begin("directions", "", Some(searches as u64));
        let plan = |ground| Plan::new(readout, &lenses.all, ground, (self.mode, setup.k), &stage);
        // Sweeps have threads of their own; those of torch would wait for its small operations by spinning, and take
        // their time.
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let plans = grounds.into_iter().map(plan).collect::<Result<Vec<_>, _>>();
        tch::set_num_threads(threads);
        drop(stage);
        let plans = plans?;
        effort_note(&plans, watch);
        Ok(plans)
    }

    /// The states of the first half at every layer.
    fn grounds(
        &self,
        source: &Source<'_>,
        model: &Model,
        windows: &[&Window],
        setup: &Setup,
        watch: &dyn Watch,
    ) -> Result<Vec<Ground>, JobError> {
        let stage = watch.begin("states", "tokens", Some(tokens(windows)));
        let sample = Sample {
            positions: self.basis_tokens,
            batch: self.pass.batch_tokens(source),
            seed: self.seed,
            keep_first: self.keep_first,
        };
        Ok(grounds(model, &setup.layers, windows, sample, &stage)?)
    }

    /// Removes every direction from the other half.
    pub(super) fn measure(
        &self,
        source: &Source<'_>,
        (model, readout): (&Model, &Readout),
        lenses: &Lenses,
        (plans, setup): (&[Plan], &Setup),
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let windows = setup.half(&setup.halves.measured);
        let n_layers = source.session.spec.n_layers;
        let passes: usize = plans.iter().map(Plan::passes).sum();
        let blocks: usize = plans.iter().map(|plan| plan.passes() * (n_layers - plan.layer())).sum();
        watch.note(&format!(
            "{} of {} in {} others, each from its layer on: as many blocks as {:.0} whole ones",
            counted(passes, "pass"),
            counted(tokens(&windows), "token"),
            counted(documents(&windows), "document"),
            blocks as f64 / n_layers.max(1) as f64
        ));
        let intervals = self.pass.intervals(self.seed);
        let of = (&lenses.all[..], &lenses.kinds[..]);
        let mut measurement = Measurement::new(readout, of, plans, self.mode, intervals)?;
        let batches = batches(&windows, self.pass.batch_tokens(source));
        let stage = watch.begin("removing", "passes of a batch", Some((passes * batches.len()) as u64));
        for batch in batches {
            let clusters = self.pass.clusters_of(&batch);
            measurement.add(model, &batch.windows, clusters.as_deref(), &stage)?;
        }
        Ok(measurement.finish())
    }
}

/// Says what it took to find the directions.
fn effort_note(plans: &[Plan], watch: &dyn Watch) {
    let sum = |of: fn(&Plan) -> usize| plans.iter().map(of).sum::<usize>();
    let (evaluations, unfinished) = (sum(|plan| plan.evaluations), sum(|plan| plan.unfinished));
    watch.note(&format!(
        "found in {evaluations} evaluations of the energy{}",
        match unfinished {
            0 => String::new(),
            n => format!("; {n} searches ended before they converged"),
        }
    ));
}

fn tokens(windows: &[&Window]) -> u64 {
    windows.iter().map(|w| w.ids.len() as u64).sum()
}

/// How many lenses read a layer.
fn reading(lenses: &[Box<dyn Lens>], layer: usize) -> usize {
    lenses.iter().filter(|lens| lens.reads(LayerIndex(layer))).count()
}

fn documents(windows: &[&Window]) -> usize {
    let mut ids: Vec<u64> = windows.iter().flat_map(|w| w.segments.iter().map(|s| s.doc_id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}
