//! The work of a trace: both runs, the maps of every hook, and the run folder.

use std::path::Path;

use serde_json::json;
use tch::Tensor;

use super::{Case, Pair, Prompts, ROUNDING, Trace, Traced, Way, rows};
use crate::{
    hook::BlockHook,
    intervene::patch::{Direction, Experiment, Levels, Map, Role, noise},
    job::{JobError, Session, Setting, Underway, Watch, claimed_anew, lines::Lines},
    model::Model,
    results::{
        run::{Claim, Counts, METRICS, MetricRow, over, write_metrics},
        statistics::Intervals,
    },
    sources::text::Tokenizer,
};

impl Trace {
    pub(super) fn check(&self) -> Result<(), JobError> {
        let [noise, samples, subject, window] = ["noise", "samples", "subject", "window"].map(Setting);
        let of_noise = self.noise.is_some() || self.samples.is_some();
        if self.subject.is_none() && self.prompts.is_none() && of_noise {
            return Err(JobError::usage(format!("{noise} and {samples} go with {subject}")));
        }
        if self.window == 0 || self.samples() == 0 || !(self.scale() >= 0.0 && self.scale().is_finite()) {
            let line = format!("{window} and {samples} must be at least 1, {noise} not below 0");
            return Err(JobError::usage(line));
        }
        Ok(())
    }

    /// The prompts that the settings have: a map by position.
    pub(super) fn one(
        &self,
        session: &Session,
        tokenizer: Tokenizer,
        layers: &[usize],
        watch: &dyn Watch,
    ) -> Result<Traced, JobError> {
        let case = Case {
            clean: self.clean.clone().unwrap_or_default(),
            corrupted: self.corrupted.clone(),
            subject: self.subject.clone(),
            answer: self.answer.clone(),
            foil: self.foil.clone(),
        };
        let prompts = case.prompts(session, &tokenizer)?;
        session.announce(watch);
        let claim = self.claim(session, &tokenizer, layers, None, watch)?;
        let model = session.load(watch)?;
        let experiment = self.experiment(session, &tokenizer, model, &prompts)?;
        let stage = watch.begin("patching", "layers", Some(self.steps(&experiment, layers)));
        let (levels, maps) = self.maps(&experiment, layers, &stage)?;
        drop(stage);
        let tokens: Vec<String> = prompts.clean.iter().map(|id| tokenizer.piece(*id as u32).shown).collect();
        let samples = experiment.noise.as_ref().map_or(1, |n| n.size()[0]);
        let kind = prompts.kind();
        let rows = rows::by_position(&levels, &maps, (&tokens, kind), samples, session.spec.n_layers);
        if let Some(claim) = claim {
            write(claim, &rows, (1, tokens.len()))?;
        }
        let pair = Some(Pair { prompts, tokens, levels, maps });
        Ok(Traced { rows, prompts: 1, pair, tokenizer })
    }

    /// The prompts of a file: means by what positions are.
    pub(super) fn many(
        &self,
        lines: &Lines<Case>,
        session: &Session,
        tokenizer: Tokenizer,
        layers: &[usize],
        watch: &dyn Watch,
    ) -> Result<Traced, JobError> {
        let all = lines.all.iter().map(|(place, case)| {
            case.check().and_then(|()| case.prompts(session, &tokenizer)).map_err(|e| e.at(place))
        });
        let all: Vec<Prompts> = all.collect::<Result<_, JobError>>()?;
        session.announce(watch);
        let claim = self.claim(session, &tokenizer, layers, Some(&lines.sha256), watch)?;
        let model = session.load(watch)?;
        let stage = watch.begin("patching", "prompts", Some(all.len() as u64));
        let mut each = Vec::new();
        for prompts in &all {
            let experiment = self.experiment(session, &tokenizer, model, prompts)?;
            let (levels, maps) = self.maps(&experiment, layers, &stage.uncounted())?;
            each.push(rows::by_role(&levels, &maps, prompts, session.spec.n_layers));
            stage.inc(1);
        }
        drop(stage);
        let mut rows = over(&each, Intervals::default())?;
        for row in rows.iter_mut().filter(|row| self.brings_nothing(row, session.spec.n_layers)) {
            *row = MetricRow { lower: None, upper: None, reason: Some(ROUNDING.into()), ..row.clone() };
        }
        if let Some(claim) = claim {
            write(claim, &rows, (all.len(), all.iter().map(|p| p.clean.len()).sum()))?;
        }
        Ok(Traced { rows, prompts: all.len(), pair: None, tokenizer })
    }

    /// Whether an effect is 0 whatever the prompts are: states before anything differs are the same in both runs, and
    /// nothing behind the last position's reads what is patched elsewhere at the end of the network.
    fn brings_nothing(&self, row: &MetricRow, n_layers: usize) -> bool {
        let of = |role: Role| row.subject == role.to_string();
        let at_end = match row.hook.as_str() {
            "resid_pre" => row.layer as usize == n_layers,
            _ => row.layer as usize + 1 == n_layers && self.window == 1,
        };
        let rounding = row.estimate.abs() < 1e-3; // more would be an effect, and has to be seen
        row.unit == "effect" && rounding && (of(Role::Before) || (at_end && !of(Role::Last)))
    }

    /// Layers to patch, of all hooks.
    fn steps(&self, experiment: &Experiment<'_>, layers: &[usize]) -> u64 {
        let of = |h: &BlockHook| layers.iter().filter(|l| experiment.layers_of(*h).contains(l)).count();
        self.hooks().iter().map(of).sum::<usize>() as u64
    }

    /// Both runs, and the map of every hook. `stage` counts layers.
    fn maps(
        &self,
        experiment: &Experiment<'_>,
        layers: &[usize],
        stage: &Underway<'_>,
    ) -> Result<(Levels, Vec<Map>), JobError> {
        let hooks = self.hooks();
        let levels = experiment.levels(&hooks)?;
        let map = |hook: &BlockHook| experiment.map(&levels, *hook, layers, self.window, stage);
        let maps = hooks.iter().map(map).collect::<Result<Vec<_>, _>>()?;
        Ok((levels, maps))
    }

    fn scale(&self) -> f64 {
        self.noise.unwrap_or(3.0)
    }

    fn samples(&self) -> usize {
        self.samples.unwrap_or(10)
    }

    fn experiment<'a>(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        model: &'a Model,
        prompts: &Prompts,
    ) -> Result<Experiment<'a>, JobError> {
        let ids = |ids: &[i64]| Tensor::from_slice(ids).view([1, -1]);
        let clean = ids(&prompts.clean);
        let drawn = |places: &[i64]| noise(model, &clean, places, self.scale(), self.samples(), self.seed);
        let noise = (!prompts.subject.is_empty()).then(|| drawn(&prompts.subject)).transpose()?;
        Ok(Experiment {
            model,
            vocab: session.vocab(tokenizer),
            corrupted: ids(&prompts.corrupted),
            clean,
            noise,
            direction: if self.direction == Way::Denoise { Direction::Denoise } else { Direction::Noise },
            answer: prompts.answer,
            foil: prompts.foil,
            batch_tokens: session.batch_tokens(self.batch_tokens),
        })
    }

    fn claim(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        layers: &[usize],
        prompts: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.config = json!({
            "clean": self.clean, "prompts": prompts, "corrupted": self.corrupted, "subject": self.subject, "noise": self.scale(),
            "samples": self.samples(), "answer": self.answer, "foil": self.foil, "window": self.window,
            "direction": self.direction, "layers": layers,
            "hooks": self.hooks().iter().map(|h| h.short_name()).collect::<Vec<_>>(),
        });
        claimed_anew(out, manifest, self.force, watch).map(Some)
    }
}

/// Writes the rows of so many documents and tokens.
fn write(claim: Claim, rows: &[MetricRow], (documents, tokens): (usize, usize)) -> Result<(), JobError> {
    let dir = claim.begin(&|p| p == Path::new(METRICS))?;
    write_metrics(dir.path(), rows)?;
    let counts = Counts {
        documents: documents as u64,
        tokens: tokens as u64,
        rows: rows.len() as u64,
        ..Counts::default()
    };
    dir.finish(counts, None)?;
    Ok(())
}
