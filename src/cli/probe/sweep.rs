//! `probe sweep`: labelled data, states, cells, numbers.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use layerscope::{
    hook::HookPoint,
    probe::{
        Cell, CellKey, Estimator, Features, Measured, ProbeError, Round, Stream, Task, baselines, exchange,
        from_export, results, rounds, run_cell, side_by_side, undefined, without_rare,
    },
    probes::{Exchange, shared_texts},
    results::run::{Counts, Found, METRICS, Manifest, RunDir, read_metrics, write_metrics},
    sources::text::Tokenizer,
    states::store::ActivationStore,
};
use rayon::prelude::*;
use serde_json::json;

use super::{
    super::{
        exit::Failure,
        inputs,
        interrupt::on_interrupt,
        output::{Output, shown},
        session::Session,
    },
    args::SweepArgs,
    ended,
    labels::{Labelled, Side},
    report, saved,
};

/// Everything decided before weights are read.
pub(super) struct Job {
    pub(super) labelled: Labelled,
    pub(super) tokenizer: Tokenizer,
    pub(super) points: Vec<HookPoint>,
    pub(super) rounds: Vec<Round>,
    pub(super) estimators: Vec<Estimator>,
    /// How labels are permuted, where they are.
    pub(super) exchange: Option<Exchange>,
}

impl SweepArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let store = self.store()?;
        let session = Session::open(&self.model.0, output)?;
        session.announce(output);
        let job = self.plan(&session, output)?;
        let manifest = self.manifest(&session, &job, store.as_ref(), output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            output.print(&report::table(&read_metrics(&self.out)?, "probe"))?;
            output.result(json!({ "out": shown(&self.out), "complete": true }))?;
            return Ok(());
        }
        let dir = claim.begin(&owns)?;
        let features = job.labelled.features(&self.out, &session, &job.points);
        let cells = if self.stream {
            self.streamed(&session, &job, &stop, output)?
        } else {
            match &store {
                Some(store) if !features[0].complete() => read(&features[0], &job, store, &stop, output)?,
                Some(_) => {}
                None => self.labels.states(&session, &[(&features, &job.labelled)], &stop, output)?,
            }
            self.cells(&session, &job, &features, &stop, output)?
        };
        self.finish(dir, &session, &job, &features[0], &cells, output)
    }

    /// The export to read, which can name the model.
    fn store(&mut self) -> Result<Option<ActivationStore>, Failure> {
        let Some(path) = &self.activations else { return Ok(None) };
        if self.labels.paired() {
            return Err(Failure::usage(anyhow!(
                "--activations: an export has one text a row; pairs (--negation-column) are read with --model"
            )));
        }
        let store = ActivationStore::open(path).map_err(Failure::usage)?;
        if self.model.0.model.is_empty() {
            let model = store.manifest().model.as_ref();
            self.model.0.model = model.map_or_else(String::new, |model| model.path.clone()).into();
        }
        Ok(Some(store))
    }

    fn plan(&self, session: &Session, output: Output) -> Result<Job, Failure> {
        let tokenizer = session.tokenizer(&self.model.0)?;
        let mut labelled = self.labels.read(&self.data, session, &tokenizer, output)?;
        let rare = without_rare(&labelled.task, self.protocol(), self.rare.rule()).map_err(Failure::usage)?;
        labelled.without(rare, output);
        let points = self.points.resolve(session)?;
        let rounds = rounds(&labelled.task, self.protocol()).map_err(Failure::usage)?;
        let estimators = self.estimators(&labelled.task)?;
        let exchange = self.exchange(&labelled.task, output).map_err(Failure::usage)?;
        warn_of_shared_texts(&labelled.sides[0], &rounds, self.labels.grouped(), output);
        Ok(Job { labelled, tokenizer, points, rounds, estimators, exchange })
    }

    fn estimators(&self, task: &Task) -> Result<Vec<Estimator>, Failure> {
        let k = task.n_classes();
        let paired = self.labels.paired();
        if self.probe.is_empty() {
            let [logistic, mean_diff, lda] = [Estimator::Logistic, Estimator::MeanDiff, Estimator::Lda];
            let all = if paired {
                vec![logistic, Estimator::Ccs, Estimator::Crc]
            } else {
                vec![logistic, mean_diff, lda]
            };
            let fits = |e: &Estimator| e.suits(k, paired) && (!self.stream || e.closed_form());
            let suits: Vec<Estimator> = all.into_iter().filter(fits).collect();
            return Ok(if suits.is_empty() { vec![Estimator::Ridge] } else { suits });
        }
        if let Some(e) = self.probe.iter().find(|e| self.stream && !e.closed_form()) {
            return Err(Failure::usage(anyhow!("--stream: {} has no closed form", e.name())));
        }
        match self.probe.iter().find(|e| !e.suits(k, paired)) {
            Some(e) => Err(Failure::usage(anyhow!(
                "--probe {}: it does not fit {}{}",
                e.name(),
                k.map_or("numbers".into(), |k| format!("{k} classes")),
                if paired { " of pairs" } else { "" }
            ))),
            None => Ok(self.probe.clone()),
        }
    }

    /// The scheme of the permutation test, if there is one, said with where it cannot say much.
    fn exchange(&self, task: &Task, output: Output) -> Result<Option<Exchange>, ProbeError> {
        let n = self.extras().permutations;
        if n == 0 {
            return Ok(None);
        }
        let (exchange, ways) = exchange(task, n)?;
        output.note(format!("permutations: {exchange}"));
        if let Some(ways) = ways {
            output.warn(format!(
                "the groups can be given their labels in {ways} ways: no p below {:.2} can be found",
                1.0 / ways
            ));
        }
        Ok(Some(exchange))
    }

    fn manifest(
        &self,
        session: &Session,
        job: &Job,
        store: Option<&ActivationStore>,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = session.manifest("probe sweep", &job.tokenizer, self.model.0.bos, output)?;
        if let Some(store) = store {
            let made_by = store.manifest().model.as_ref().map(|m| &m.sha256);
            if made_by != manifest.model.as_ref().map(|m| &m.sha256) {
                return Err(Failure::check(format!(
                    "{}: made with another model than {}",
                    self.activations.as_deref().unwrap_or(Path::new("")).display(),
                    self.model.0.model.display()
                )));
            }
        }
        manifest.seed = self.common.seed;
        let names: Vec<String> = self.data.iter().map(|path| path.display().to_string()).collect();
        manifest.data = inputs::hashes(&self.data, &names)?;
        let (protocol, options, extras) = (self.protocol(), self.options(), self.extras());
        let own = [
            ("probes", json!(job.estimators.iter().map(|e| e.name()).collect::<Vec<_>>())),
            ("seeds", json!(protocol.seeds)),
            ("kfold", json!(protocol.kfold)),
            ("l2", json!(options.l2)),
            ("standardise", json!(options.standardise)),
            ("balanced", json!(options.balanced)),
            ("control_draws", json!(extras.draws)),
            ("mdl", json!(extras.mdl)),
            ("permutations", json!(extras.permutations)),
            ("intervals", self.intervals.config()),
            ("bootstrap_seed", json!(self.bootstrap_seed)),
            ("stream", json!(self.stream)),
            ("activations", json!(store.map(|s| s.manifest().job.clone()))),
        ];
        let exchange = job.exchange.map(|exchange| ("exchange", json!(exchange.to_string())));
        let all = self.labels.config(&job.labelled, &job.points).into_iter().chain(own).chain(exchange);
        manifest.config = all.collect();
        Ok(manifest)
    }

    /// Every cell, from passes over the texts.
    fn streamed(
        &self,
        session: &Session,
        job: &Job,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<Vec<Vec<Cell>>, Failure> {
        let model = session.load(output)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(session.threads).build()?;
        let stream = Stream {
            model: &model,
            plan: &job.labelled.sides[0].plan,
            task: &job.labelled.task,
            rounds: &job.rounds,
            points: &job.points,
            estimators: &job.estimators,
            options: &self.options(),
            batch_tokens: self.labels.batch_tokens(session),
            pool: &pool,
            draws: self.extras().draws,
        };
        let bar = output.bar("passes over the texts", "tokens", None);
        let cells = stream.cells(&mut |tokens| {
            bar.inc(tokens as u64);
            stop.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        cells.map_err(ended)
    }

    /// Every cell by point, then split; those that an earlier run wrote are read.
    fn cells(
        &self,
        session: &Session,
        job: &Job,
        features: &[Features],
        stop: &AtomicBool,
        output: Output,
    ) -> Result<Vec<Vec<Cell>>, Failure> {
        let all: Vec<(usize, usize)> =
            (0..job.points.len()).flat_map(|p| (0..job.rounds.len()).map(move |r| (p, r))).collect();
        let bar = output.bar("fitting", "cells", Some(all.len() as u64));
        let (options, extras) = (self.options(), self.extras());
        let one = |&(place, number): &(usize, usize)| -> Result<Cell, ProbeError> {
            let (hook, layer) = features[0].name(place);
            let round = &job.rounds[number];
            let key = CellKey { hook: hook.into(), layer, seed: round.seed, fold: round.fold };
            let path = key.path(&self.out);
            let cell = if let Some(cell) = Cell::read(&path, &job.estimators)? {
                cell
            } else if stop.load(Ordering::Relaxed) {
                return Err(ProbeError::Interrupted);
            } else {
                let x = side_by_side(features, place)?;
                let extras = if number == 0 { extras } else { extras.of_later_splits() };
                let task = &job.labelled.task;
                let cell = run_cell((&key, x.view()), task, round, &job.estimators, &options, extras)?;
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
        session: &Session,
        job: &Job,
        features: &Features,
        cells: &[Vec<Cell>],
        output: Output,
    ) -> Result<(), Failure> {
        let options = self.options();
        let (task, tokens) = (&job.labelled.task, job.labelled.tokens(session.spec.vocab));
        let baselines = job.rounds.iter().map(|round| baselines(task, &tokens, round, &options));
        let baselines = baselines.collect::<Result<Vec<_>, _>>()?;
        let points: Vec<(String, usize)> = (0..job.points.len())
            .map(|place| features.name(place))
            .map(|(hook, layer)| (hook.to_owned(), layer))
            .collect();
        let (rows, summaries) = results(&Measured {
            task,
            rounds: &job.rounds,
            points: &points,
            cells,
            baselines: &baselines,
            estimators: &job.estimators,
            intervals: self.intervals.policy(self.bootstrap_seed),
        })?;
        saved::write(&self.out, job, &points, cells, dir.manifest())?;
        write_metrics(&self.out, &rows)?;
        let (documents, tokens) = job.labelled.size();
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        output.print(&report::table(&rows, "probe"))?;
        if let Some(why) = undefined(task, &job.rounds) {
            output.warn(why);
        }
        report::summaries(&summaries, output);
        output.wrote(&self.out, "all numbers with their intervals");
        output.result(
            json!({ "out": shown(&self.out), "rows": rows.len(), "best": report::best(&summaries) }),
        )?;
        Ok(())
    }
}

/// Reads the states from an export.
fn read(
    features: &Features,
    job: &Job,
    store: &ActivationStore,
    stop: &AtomicBool,
    output: Output,
) -> Result<(), Failure> {
    let rows = store.n_rows() as u64 * job.points.len() as u64;
    let bar = output.bar("reading states", "rows", Some(rows));
    let read = from_export(features, store, &job.labelled.sides[0].plan, &mut |rows| {
        bar.inc(rows as u64);
        stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    read.map_err(ended)
}

/// Texts on both sides of the first split that are equal or nearly so: what a group column would have kept together.
fn warn_of_shared_texts(side: &Side, rounds: &[Round], grouped: bool, output: Output) {
    let Some(round) = rounds.first() else { return };
    let Side { set, plan } = side;
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
    [METRICS, "features", "negations", "cells", "probes"].iter().any(|name| first == Path::new(name))
}
