//! Progress of a fit: held-out losses, and checkpoints from which a stopped one goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    job::{JobError, Underway, Watch},
    lens::fit::{FitError, FitLog, FitTarget, FitWatch},
    model::Weights,
    results::run::RunError,
    states::{check_tensors, write_tensors},
};
use serde_json::json;
use tch::{Kind, Tensor};

/// A fit's watcher: it reports to the job's, and writes a checkpoint every so many seconds.
pub(super) struct Checkpoints<'w> {
    watch: &'w dyn Watch,
    stage: Underway<'w>,
    path: PathBuf,
    every: Duration,
    written: Instant,
    /// Targets that were validated before.
    begun: BTreeSet<String>,
}

impl<'w> Checkpoints<'w> {
    pub(super) fn new(watch: &'w dyn Watch, tokens: usize, path: PathBuf, seconds: u64) -> Self {
        let stage = watch.begin("fitting", "tokens", Some(tokens as u64));
        let (every, written) = (Duration::from_secs(seconds), Instant::now());
        Self { watch, stage, path, every, written, begun: BTreeSet::new() }
    }

    fn write(&self, targets: &[FitTarget], log: &FitLog) -> Result<(), FitError> {
        let names: Vec<String> = targets.iter().map(|t| t.name.clone()).collect();
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::from([("log".to_owned(), log.state(&names))]);
        for (i, target) in targets.iter().enumerate() {
            let state = target.fitter.state().into_iter();
            tensors.extend(state.map(|(name, tensor)| (format!("{i}/{name}"), tensor)));
        }
        Ok(write_tensors(&self.path, &tensors)?)
    }
}

impl FitWatch for Checkpoints<'_> {
    fn advance(&mut self, tokens: usize) {
        self.stage.inc(tokens as u64);
    }

    fn validated(&mut self, target: &str, step: usize, losses: &[f64]) {
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let layers: Vec<String> = losses.iter().map(|loss| format!("{loss:.3}")).collect();
        // Before the first step there are two: what the fit begins from is chosen between them.
        let when = match (step, self.begun.insert(target.to_owned())) {
            (0, true) => "as the logit lens".to_owned(),
            (0, false) => "in closed form".to_owned(),
            _ => format!("step {step}"),
        };
        self.watch.note(&format!("{target}, {when}: held-out {mean:.4}  [{}]", layers.join(" ")));
        let losses = json!({ "target": target, "step": step, "mean": mean, "layers": losses });
        self.watch.event("validated", losses);
    }

    fn between(&mut self, targets: &[FitTarget], log: &FitLog) -> Result<bool, FitError> {
        let stop = self.watch.stopped();
        if stop || self.written.elapsed() >= self.every {
            self.write(targets, log)?;
            self.written = Instant::now();
        }
        Ok(stop)
    }
}

/// Removes a checkpoint that is not what a fit wrote: the fit starts over.
pub(super) fn refuse_damaged(path: &Path, watch: &dyn Watch) -> Result<(), JobError> {
    match check_tensors(path) {
        Err(e @ RunError::Damaged { .. }) => {
            watch.warn(&format!("{}; the fit starts over", e.finding()));
            Ok(std::fs::remove_file(path)?)
        }
        _ => Ok(()), // none, or whole
    }
}

/// Puts targets and log back to where a checkpoint was taken.
pub(super) fn restore(path: &Path, targets: &mut [FitTarget]) -> Result<FitLog, JobError> {
    let file = Weights::open_file(path, Kind::Double)?;
    let names: Vec<String> = targets.iter().map(|t| t.name.clone()).collect();
    let mut parts: Vec<BTreeMap<String, Tensor>> = targets.iter().map(|_| BTreeMap::new()).collect();
    for (name, _) in file.shapes() {
        let place = name.split_once('/').and_then(|(place, rest)| Some((place.parse::<usize>().ok()?, rest)));
        if let Some((place, rest)) = place.filter(|(place, _)| *place < parts.len()) {
            parts[place].insert(rest.to_owned(), file.take_any(name)?);
        }
    }
    for (target, state) in targets.iter_mut().zip(&parts) {
        target.fitter.restore(state)?;
        target.init = None;
    }
    Ok(FitLog::restore(&file.take_any("log")?, &names)?)
}
