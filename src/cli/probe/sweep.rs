//! `probe sweep`: labelled data, states, cells, numbers.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::anyhow;
use layerscope::{
    hook::{HookPoint, Selection},
    labelled::{LabelledSet, Plan, Positions, check},
    model::hook_points,
    probe::{
        Cell, CellKey, Estimator, Features, Measured, ProbeError, Round, Task, baselines, extract,
        from_export, results, rounds, run_cell,
    },
    probes::{Resamples, shared_texts},
    run::{Counts, Found, METRICS, Manifest, RunDir, read_metrics, write_metrics},
    store::ActivationStore,
    text::resolve_seq_len,
};
use rayon::prelude::*;
use serde_json::json;

use super::{
    super::{exit::Failure, inputs, interrupt::on_interrupt, output::Output, session::Session},
    args::SweepArgs,
    ended, report, save,
};

/// Everything decided before weights are read.
pub(super) struct Job {
    pub(super) set: LabelledSet,
    pub(super) plan: Plan,
    pub(super) task: Task,
    pub(super) points: Vec<HookPoint>,
    pub(super) rounds: Vec<Round>,
    pub(super) estimators: Vec<Estimator>,
}

impl SweepArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let store =
            self.activations.as_deref().map(ActivationStore::open).transpose().map_err(Failure::usage)?;
        if let (Some(store), true) = (&store, self.model.0.model.is_empty()) {
            let model = store.manifest().model.as_ref();
            self.model.0.model = model.map_or_else(String::new, |model| model.path.clone());
        }
        let session = Session::open(&self.model.0, output)?;
        session.announce(output);
        let job = self.plan(&session, output)?;
        let manifest = self.manifest(&session, &job, store.as_ref(), output)?;
        let claim = RunDir::claim(&self.out, manifest, self.force)?;
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            output.print(&report::table(&read_metrics(&self.out)?))?;
            output.result(json!({ "out": self.out, "complete": true }))?;
            return Ok(());
        }
        let dir = claim.begin(&owns)?;
        let features = Features::new(&self.out, &session.spec, &job.points, job.task.len());
        if !features.complete() {
            self.states(&session, &job, &features, store.as_ref(), &stop, output)?;
        }
        let cells = self.cells(&session, &job, &features, &stop, output)?;
        self.finish(dir, &job, &features, &cells, output)
    }

    fn plan(&self, session: &Session, output: Output) -> Result<Job, Failure> {
        let set = LabelledSet::open(&self.data, &self.labels.options()).map_err(Failure::usage)?;
        output.note(check(&set).map_err(Failure::usage)?.to_string());
        let tokenizer = session.tokenizer(&self.model.0)?;
        let context = resolve_seq_len(self.labels.seq_len, session.spec.n_ctx).map_err(Failure::usage)?;
        let positions = Positions::resolve(self.labels.positions, set.unit).map_err(Failure::usage)?;
        let plan = Plan::new(&set, &tokenizer, positions, context).map_err(Failure::usage)?;
        output.note(plan.to_string());
        let task = Task::of(&plan, set.unit);
        let layers = self.labels.layers.as_ref().map(|l| l.0.as_slice());
        let points = Selection::new(&self.labels.hooks, layers, &hook_points(&session.spec))
            .map_err(Failure::usage)?;
        let rows = |p: &HookPoint| layerscope::model::width(&session.spec, *p).is_some();
        let points: Vec<HookPoint> = points.iter().filter(rows).collect();
        if points.is_empty() {
            return Err(Failure::usage(anyhow!("--hooks: none has a state per token")));
        }
        let rounds = rounds(&task, self.protocol()).map_err(Failure::usage)?;
        let estimators = self.estimators(&task)?;
        warn_of_shared_texts(&set, &plan, &rounds, self.labels.group_column.is_some(), output);
        Ok(Job { set, plan, task, points, rounds, estimators })
    }

    fn estimators(&self, task: &Task) -> Result<Vec<Estimator>, Failure> {
        let k = task.n_classes();
        if self.probe.is_empty() {
            let all = [Estimator::Logistic, Estimator::MeanDiff, Estimator::Lda];
            let suits: Vec<Estimator> = all.into_iter().filter(|e| e.suits(k)).collect();
            return Ok(if suits.is_empty() { vec![Estimator::Ridge] } else { suits });
        }
        match self.probe.iter().find(|e| !e.suits(k)) {
            Some(e) => Err(Failure::usage(anyhow!(
                "--probe {}: it does not fit {}",
                e.name(),
                k.map_or("numbers".into(), |k| format!("{k} classes"))
            ))),
            None => Ok(self.probe.clone()),
        }
    }

    fn manifest(
        &self,
        session: &Session,
        job: &Job,
        store: Option<&ActivationStore>,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let tokenizer = session.tokenizer(&self.model.0)?;
        let mut manifest = session.manifest("probe sweep", &tokenizer, self.model.0.bos, output)?;
        if let Some(store) = store {
            let made_by = store.manifest().model.as_ref().map(|m| &m.sha256);
            if made_by != manifest.model.as_ref().map(|m| &m.sha256) {
                return Err(Failure::check(format!(
                    "{}: made with another model than {}",
                    self.activations.as_deref().unwrap_or(Path::new("")).display(),
                    self.model.0.model
                )));
            }
        }
        manifest.seed = self.common.seed;
        let names: Vec<String> = self.data.iter().map(|path| path.display().to_string()).collect();
        manifest.data = inputs::hashes(&self.data, &names)?;
        let (labelled, protocol, options) = (self.labels.options(), self.protocol(), self.options());
        manifest.config = json!({
            "unit": format!("{:?}", job.set.unit).to_lowercase(),
            "positions": job.plan.positions.to_string(),
            "text_column": labelled.text_column,
            "label_column": labelled.label_column,
            "group_column": labelled.group_column,
            "span_columns": labelled.span_columns,
            "numbers": labelled.numbers,
            "hooks": job.points.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "probes": job.estimators.iter().map(|e| e.name()).collect::<Vec<_>>(),
            "seeds": protocol.seeds,
            "kfold": protocol.kfold,
            "l2": options.l2,
            "standardise": options.standardise,
            "balanced": options.balanced,
            "mdl": self.mdl,
            "replicates": self.replicates,
            "seq_len": self.labels.seq_len,
            "batch_tokens": self.labels.batch_tokens,
            "activations": store.map(|s| s.manifest().job.clone()),
        });
        Ok(manifest)
    }

    fn states(
        &self,
        session: &Session,
        job: &Job,
        features: &Features,
        store: Option<&ActivationStore>,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<(), Failure> {
        if let Some(store) = store {
            let bar =
                output.bar("reading states", "rows", Some(store.n_rows() as u64 * job.points.len() as u64));
            let read = from_export(features, store, &job.plan, &mut |rows| {
                bar.inc(rows as u64);
                stop.load(Ordering::Relaxed)
            });
            bar.finish_and_clear();
            return read.map_err(ended);
        }
        let model = session.load(output)?;
        let tokens: usize = job.plan.windows.iter().map(|w| w.ids.len()).sum();
        let bar = output.bar("running the model", "tokens", Some(tokens as u64));
        let batch = session.batch_tokens(self.labels.batch_tokens);
        let done = extract(features, &model, &job.plan, batch, &mut |tokens| {
            bar.inc(tokens as u64);
            stop.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        done.map_err(ended)
    }

    /// Every cell by point, then split; those that an earlier run wrote are read.
    fn cells(
        &self,
        session: &Session,
        job: &Job,
        features: &Features,
        stop: &Arc<AtomicBool>,
        output: Output,
    ) -> Result<Vec<Vec<Cell>>, Failure> {
        let all: Vec<(usize, usize)> =
            (0..job.points.len()).flat_map(|p| (0..job.rounds.len()).map(move |r| (p, r))).collect();
        let bar = output.bar("fitting", "cells", Some(all.len() as u64));
        let options = self.options();
        let one = |&(place, number): &(usize, usize)| -> Result<Cell, ProbeError> {
            let (hook, layer) = features.name(place);
            let round = &job.rounds[number];
            let key = CellKey { hook: hook.into(), layer, seed: round.seed, fold: round.fold };
            let path = key.path(&self.out);
            let cell = if let Some(cell) = Cell::read(&path, &job.estimators)? {
                cell
            } else if stop.load(Ordering::Relaxed) {
                return Err(ProbeError::Interrupted);
            } else {
                let x = features.matrix(place)?;
                let mdl = if number == 0 { self.mdl } else { 0 };
                let cell = run_cell((&key, x.view()), &job.task, round, &job.estimators, &options, mdl)?;
                cell.write(&path)?;
                cell
            };
            bar.inc(1);
            Ok(cell)
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(session.threads).build()?;
        let done: Result<Vec<Cell>, ProbeError> = pool.install(|| all.par_iter().map(one).collect());
        bar.finish_and_clear();
        let mut done = done.map_err(ended)?.into_iter();
        Ok(job.points.iter().map(|_| done.by_ref().take(job.rounds.len()).collect()).collect())
    }

    fn finish(
        &self,
        dir: RunDir,
        job: &Job,
        features: &Features,
        cells: &[Vec<Cell>],
        output: Output,
    ) -> Result<(), Failure> {
        let options = self.options();
        let tokens = job.rounds.iter().map(|r| baselines(&job.task, &job.plan, r, &options));
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        let points: Vec<(String, usize)> = (0..job.points.len())
            .map(|place| features.name(place))
            .map(|(hook, layer)| (hook.to_owned(), layer))
            .collect();
        let (rows, summaries) = results(&Measured {
            task: &job.task,
            rounds: &job.rounds,
            points: &points,
            cells,
            baselines: &tokens,
            estimators: &job.estimators,
            resamples: Resamples::new(self.common.seed, self.replicates),
        })?;
        save::probes(&self.out, job, &points, cells, dir.manifest())?;
        write_metrics(&self.out, &rows)?;
        let n = |x: usize| x as u64;
        let counts = Counts {
            documents: n(job.plan.windows.len()),
            tokens: job.plan.windows.iter().map(|w| n(w.ids.len())).sum(),
            rows: n(rows.len()),
            ..Counts::default()
        };
        dir.finish(counts, None)?;
        output.print(&report::table(&rows))?;
        report::summaries(&summaries, output);
        output.note(format!("{}: all numbers with their intervals", self.out.join(METRICS).display()));
        output.result(json!({ "out": self.out, "rows": rows.len(), "best": report::best(&summaries) }))?;
        Ok(())
    }
}

/// Texts on both sides of the first split that are equal or nearly so: what a group column would have kept together.
fn warn_of_shared_texts(set: &LabelledSet, plan: &Plan, rounds: &[Round], grouped: bool, output: Output) {
    let Some(round) = rounds.first() else { return };
    let texts: Vec<&str> = set.texts.iter().map(|t| t.text.as_str()).collect();
    let of = |rows: &[usize]| -> Vec<usize> {
        let mut texts: Vec<usize> = rows.iter().map(|row| plan.items[*row].text as usize).collect();
        texts.dedup();
        texts
    };
    let (train, validation, test) = (of(&round.train), of(&round.validation), of(&round.test));
    if let Some(shared) = shared_texts(&texts, &[&train, &validation, &test]) {
        let hint = if grouped { "" } else { "; --group-column keeps what belongs together on one side" };
        output.warn(format!("{shared}{hint}"));
    }
}

/// The files of a sweep.
fn owns(relative: &Path) -> bool {
    let mut parts = relative.components().map(|c| PathBuf::from(c.as_os_str()));
    let first = parts.next().unwrap_or_default();
    [METRICS, "features", "cells", "probes"].iter().any(|name| first == Path::new(name))
}
