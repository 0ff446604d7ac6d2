//! The two halves of `lens causal`: directions from the one, their effects on the other.

use std::sync::atomic::{AtomicBool, Ordering};

use layerscope::{
    lens::causal::{CausalError, Ground, Measurement, Plan, Sample, grounds},
    lenses::{LayerIndex, Lens, Readout},
    model::Model,
    results::run::MetricRow,
    results::words::counted,
    sources::text::Window,
};

use super::{
    super::{
        super::{exit::Failure, output::Output, source::Source},
        load::Lenses,
    },
    CausalArgs, Job,
};

impl Job {
    fn half(&self, places: &[usize]) -> Vec<&Window> {
        places.iter().map(|i| &self.text.windows[*i]).collect()
    }
}

impl CausalArgs {
    /// Reads the first half and finds the directions of every layer.
    pub(super) fn plans(
        &self,
        source: &Source,
        (model, readout): (&Model, &Readout),
        lenses: &Lenses,
        job: &Job,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<Vec<Plan>, Failure> {
        let windows = job.half(&job.halves.moments);
        let bar = output.bar("states", "tokens", Some(tokens(&windows)));
        let sample = Sample {
            positions: self.basis_tokens,
            batch: self.pass.batch_tokens(source),
            seed: self.common.seed,
            keep_first: self.keep_first,
        };
        let read = grounds(model, &job.layers, &windows, sample, |rows| {
            bar.inc(rows as u64);
            go_on(stop)
        });
        bar.finish_and_clear();
        let read = read.map_err(ended)?;
        let readers = |ground: &Ground| reading(&lenses.all, ground.layer);
        let searches = job.k * read.iter().map(readers).sum::<usize>();
        let positions = read.first().map_or(0, |ground| ground.states.size()[0]);
        output.note(format!(
            "{} to find, on {} of {} in {}",
            counted(searches, "direction"),
            counted(positions, "position"),
            counted(tokens(&windows), "token"),
            counted(documents(&windows), "document")
        ));
        let bar = output.bar("directions", "", Some(searches as u64));
        let plan = |ground| {
            Plan::new(readout, &lenses.all, ground, (self.mode, job.k), || {
                bar.inc(1);
                go_on(stop)
            })
        };
        // Sweeps have threads of their own; those of torch would wait for its small operations by spinning, and take their time.
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let plans = read.into_iter().map(plan).collect::<Result<Vec<_>, _>>();
        tch::set_num_threads(threads);
        bar.finish_and_clear();
        let plans = plans.map_err(ended)?;
        let sum = |of: fn(&Plan) -> usize| plans.iter().map(of).sum::<usize>();
        let (evaluations, unfinished) = (sum(|plan| plan.evaluations), sum(|plan| plan.unfinished));
        output.note(format!(
            "found in {evaluations} evaluations of the energy{}",
            match unfinished {
                0 => String::new(),
                n => format!("; {n} searches ended before they converged"),
            }
        ));
        Ok(plans)
    }

    /// Removes every direction from the other half.
    pub(super) fn measure(
        &self,
        source: &Source,
        (model, readout): (&Model, &Readout),
        lenses: &Lenses,
        (plans, job): (&[Plan], &Job),
        stop: &AtomicBool,
        output: Output,
    ) -> Result<Vec<MetricRow>, Failure> {
        let windows = job.half(&job.halves.measured);
        let n_layers = source.session.spec.n_layers;
        let passes: usize = plans.iter().map(Plan::passes).sum();
        let blocks: usize = plans.iter().map(|plan| plan.passes() * (n_layers - plan.layer())).sum();
        output.note(format!(
            "{} of {} in {} others, each from its layer on: as many blocks as {:.0} whole ones",
            counted(passes, "pass"),
            counted(tokens(&windows), "token"),
            counted(documents(&windows), "document"),
            blocks as f64 / n_layers.max(1) as f64
        ));
        let intervals = self.pass.intervals(self.common.seed);
        let of = (&lenses.all[..], &lenses.kinds[..]);
        let mut measurement = Measurement::new(readout, of, plans, self.mode, intervals)?;
        let batches: Vec<_> = self.pass.batched(source, &windows).collect();
        let bar = output.bar("removing", "passes of a batch", Some((passes * batches.len()) as u64));
        for (some, clusters) in batches {
            let added = measurement.add(model, &some, clusters.as_deref(), || {
                bar.inc(1);
                go_on(stop)
            });
            if added.is_err() {
                bar.finish_and_clear();
            }
            added.map_err(ended)?;
        }
        bar.finish_and_clear();
        Ok(measurement.finish())
    }
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

fn go_on(stop: &AtomicBool) -> Result<(), CausalError> {
    if stop.load(Ordering::Relaxed) { Err(CausalError::Interrupted) } else { Ok(()) }
}

fn ended(error: CausalError) -> Failure {
    match error {
        CausalError::Interrupted => Failure::interrupted(error),
        other => other.into(),
    }
}
