//! `probe apply`: saved probes on other data.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum as _};
use layerscope::{
    hook::HookPoint,
    model::hook_points,
    probe::{Applied, Features, ProbeError, SCORES, Target, Task, side_by_side, write_scores},
    probes::{Weightings, majority},
    results::run::{Counts, Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
    sources::labelled::{Positions, place_of_class},
    sources::leakage::{Basis, FittedOn, Leakage},
    sources::text::Tokenizer,
};
use ndarray::Array2;
use rayon::prelude::*;
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, ModelArgs},
        exit::Failure,
        inputs,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        output::{Output, shown},
        session::Session,
    },
    ended,
    labels::{LabelArgs, Labelled},
    report,
    saved::{self, Facts, Saved},
};
use crate::cli::intervals::IntervalArgs;

/// Score other labelled data with saved probes
///
/// Nothing is fitted: `probe sweep` writes RUN/probes, and this reads them on the data at hand, at the layers they were fitted on.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folders of sweeps, or single probes (RUN/probes/NAME.safetensors)
    #[arg(long, required = true, num_args = 1.., value_name = "RUN|FILE")]
    probe: Vec<PathBuf>,
    /// Labelled data: .csv, .tsv, .jsonl, .json, .parquet or .conllu
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    intervals: IntervalArgs,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// A saved probe, its name here and its place among the points.
struct Ready {
    subject: String,
    saved: Saved,
    place: usize,
}

impl ApplyArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let session = Session::open(&self.model, output)?;
        session.announce(output);
        let (probes, points) = self.probes(&session)?;
        self.positions(&probes)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let mut labelled = self.labels.read(&self.data, &session, &tokenizer, output)?;
        as_fitted(&probes[0].saved.facts, &mut labelled, output).map_err(Failure::usage)?;
        let task = &labelled.task;
        let mut manifest = self.manifest(&session, &tokenizer, (&labelled, &points), &probes, output)?;
        self.leakage.judge(of_probes(&probes, &labelled)?, &mut manifest, output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.report(&read_metrics(&self.out)?, output);
        }
        let dir = claim
            .begin(&|p| [METRICS, SCORES, "features", "negations"].iter().any(|name| p.starts_with(name)))?;
        let features = labelled.features(&self.out, &session, &points);
        self.labels.states(&session, &[(&features, &labelled)], &stop, output)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(session.threads).build()?;
        let rows = pool.install(|| self.score(&probes, &labelled, task, &features))?;
        write_metrics(&self.out, &rows)?;
        let (documents, tokens) = labelled.size();
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        self.report(&rows, output)
    }

    /// The probes and the points they read.
    fn probes(&self, session: &Session) -> Result<(Vec<Ready>, Vec<HookPoint>), Failure> {
        let (mut all, mut points) = (Vec::new(), Vec::new());
        for path in &self.probe {
            for saved in saved::read(path).map_err(Failure::usage)? {
                let point = point(session, &saved).map_err(Failure::usage)?;
                let place = points.iter().position(|p| *p == point).unwrap_or(points.len());
                if place == points.len() {
                    points.push(point);
                }
                let run = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let several = self.probe.len() > 1 && path.is_dir();
                let probe = saved.facts.probe.clone();
                let subject = if several { format!("{run}/{probe}") } else { probe };
                all.push(Ready { subject, saved, place });
            }
        }
        let key = |r: &Ready| (r.subject.clone(), r.place);
        if let Some(twice) =
            (1..all.len()).find(|i| all[..*i].iter().any(|other| key(other) == key(&all[*i])))
        {
            return Err(Failure::usage(anyhow!(
                "--probe: two probes are called {} at {}",
                all[twice].subject,
                points[all[twice].place]
            )));
        }
        agree(&all, self.labels.paired()).map_err(Failure::usage)?;
        Ok((all, points))
    }

    /// Where nothing else was asked for, the positions of the fit.
    fn positions(&mut self, probes: &[Ready]) -> Result<(), Failure> {
        let fitted = &probes[0].saved.facts.positions;
        let known =
            Positions::from_str(fitted, true).map_err(|e| Failure::usage(anyhow!("{fitted}: {e}")))?;
        self.labels.positions.get_or_insert(known);
        Ok(())
    }

    fn manifest(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        (labelled, points): (&Labelled, &[HookPoint]),
        probes: &[Ready],
        output: Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = session.manifest("probe apply", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        let names: Vec<String> = self.data.iter().map(|path| path.display().to_string()).collect();
        manifest.data = inputs::hashes(&self.data, &names)?;
        let model = manifest.model.as_ref().map(|m| m.sha256.clone());
        if probes.iter().any(|probe| probe.saved.facts.model != model) {
            output.warn("a probe was fitted to the states of another model than this one");
        }
        let one = |r: &Ready| json!({ "subject": r.subject, "file": shown(&r.saved.path), "sha256": r.saved.sha256 });
        let own = [("probes", probes.iter().map(one).collect()), ("intervals", self.intervals.config())];
        manifest.config = self.labels.config(labelled, points).into_iter().chain(own).collect();
        Ok(manifest)
    }

    fn score(
        &self,
        probes: &[Ready],
        labelled: &Labelled,
        task: &Task,
        features: &[Features],
    ) -> Result<Vec<MetricRow>, Failure> {
        let intervals = self.intervals.policy(self.common.seed);
        let weightings = Weightings::new(&task.groups, intervals).map_err(Failure::failed)?;
        let done: Vec<_> = probes
            .par_iter()
            .map(|probe| one(probe, features, task, &weightings))
            .collect::<Result<_, _>>()
            .map_err(ended)?;
        let (scored, rows): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let side = &labelled.sides[0];
        let docs: Vec<u64> =
            side.plan.items.iter().map(|item| side.set.texts[item.text as usize].doc_id).collect();
        write_scores(&self.out, task, &docs, &scored).map_err(ended)?;
        let mut rows = rows.concat();
        rows.extend(commonest(task, &weightings)?);
        Ok(rows)
    }

    fn report(&self, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
        output.print(&report::table(rows, "applied"))?;
        output.note(format!("{}: what every probe says of every item", self.out.join(SCORES).display()));
        output.result(json!({ "out": shown(&self.out), "rows": rows.len() }))?;
        Ok(())
    }
}

/// The items against what the probes of every folder were fitted on.
fn of_probes(probes: &[Ready], labelled: &Labelled) -> Result<Vec<Leakage>, Failure> {
    let mut folders: Vec<&Path> = probes.iter().filter_map(|probe| probe.saved.path.parent()).collect();
    folders.dedup();
    let one = |folder: &&Path| -> Result<Leakage, Failure> {
        let (name, here) = (format!("the probe of {}", folder.display()), "these data");
        Ok(match FittedOn::read(folder)? {
            None => Leakage::unknown(
                name,
                here,
                Basis::Words,
                "its folder has no record of the texts it was fitted on",
            ),
            Some(fitted) => {
                let texts = labelled.texts(0..labelled.task.len());
                let texts = texts.iter().map(|(text, items)| (text.as_str(), *items));
                Leakage::found(name, here, Basis::Words, fitted.overlap_of_texts(texts))
            }
        })
    };
    folders.iter().map(one).collect()
}

/// A probe with its scores of every item.
type Scored<'a> = (Applied<'a>, Array2<f64>);

/// One probe's scores and numbers.
fn one<'a>(
    ready: &'a Ready,
    features: &[Features],
    task: &Task,
    weightings: &Weightings,
) -> Result<(Scored<'a>, Vec<MetricRow>), ProbeError> {
    let Facts { hook, layer, .. } = &ready.saved.facts;
    let probe = Applied { subject: &ready.subject, hook, layer: *layer, linear: &ready.saved.linear };
    let x = side_by_side(features, ready.place)?;
    let (scores, rows) = probe.score(x.view(), task, weightings)?;
    Ok(((probe, scores), rows))
}

/// Where a probe reads in this model.
fn point(session: &Session, saved: &Saved) -> anyhow::Result<HookPoint> {
    let (facts, spec) = (&saved.facts, &session.spec);
    let found = hook_points(spec)
        .into_iter()
        .find(|p| p.short_name() == facts.hook && p.layer(spec.n_layers) == facts.layer);
    let name = || format!("the probe {} of {} {}", facts.probe, facts.hook, facts.layer);
    let point = found.ok_or_else(|| anyhow!("{}: this model has no such hook and layer", name()))?;
    let width = layerscope::model::width(spec, point).map_or(0, |size| size.iter().product::<usize>());
    let reads = saved.linear.d() / if facts.paired { 2 } else { 1 };
    if width == reads {
        Ok(point)
    } else {
        Err(anyhow!("{}: it reads states of width {reads}, this model's are {width} wide", name()))
    }
}

/// All probes have the same classes and read texts alike.
fn agree(probes: &[Ready], paired: bool) -> anyhow::Result<()> {
    let first = &probes[0].saved.facts;
    for Ready { subject, saved, .. } in probes {
        let facts = &saved.facts;
        let texts = |facts: &Facts| (facts.classes.clone(), facts.rare.clone(), facts.positions.clone());
        if texts(facts) != texts(first) {
            return Err(anyhow!(
                "--probe: {subject} and {} have other classes or positions",
                probes[0].subject
            ));
        }
        if facts.paired != paired {
            let needs = if facts.paired { "needs" } else { "does not read" };
            return Err(anyhow!("--probe {subject}: it {needs} pairs (--negation-column)"));
        }
    }
    Ok(())
}

/// Gives the items the probe's classes, in its order; those of classes that were too rare to be fitted are left out, or the
/// class that the rare ones are together.
fn as_fitted(facts: &Facts, labelled: &mut Labelled, output: Output) -> anyhow::Result<()> {
    let (known, names) = match (&facts.classes, &labelled.task.target) {
        (Some(known), Target::Classes { names, .. }) => (known, names),
        (None, Target::Numbers(_)) => return Ok(()),
        (Some(_), Target::Numbers(_)) => return Err(anyhow!("--numbers: the probe tells classes")),
        (None, _) => return Err(anyhow!("the probe gives numbers: read the labels with --numbers")),
    };
    let place = |name: &String, among: &[String]| place_of_class(name, among).map(|place| place as u32);
    let together = facts.rare.as_ref().and_then(|rare| place(rare.together.as_ref()?, known));
    let is_rare =
        |name: &String| facts.rare.as_ref().is_some_and(|rare| place(name, &rare.classes).is_some());
    let strange: Vec<String> =
        names.iter().filter(|n| place(n, known).is_none() && !is_rare(n)).map(|n| format!("{n:?}")).collect();
    if !strange.is_empty() {
        return Err(anyhow!(
            "the probe does not know the class{} {}; it knows {}",
            if strange.len() == 1 { "" } else { "es" },
            strange.join(", "),
            known.join(", ")
        ));
    }
    let to: Vec<Option<u32>> =
        names.iter().map(|name| place(name, known).or(together.filter(|_| is_rare(name)))).collect();
    let gone: Vec<String> =
        names.iter().zip(&to).filter(|(_, to)| to.is_none()).map(|(name, _)| format!("{name:?}")).collect();
    let (before, known) = (labelled.task.len(), known.clone());
    labelled.regroup(&to, &known);
    if labelled.task.is_empty() {
        return Err(anyhow!("every label is of a class that was too rare to be fitted: {}", gone.join(", ")));
    }
    if !gone.is_empty() {
        let n = before - labelled.task.len();
        output.note(format!("{:<10} {n} of classes too rare to be fitted: {}", "left out", gone.join(", ")));
    }
    Ok(())
}

/// How often the commonest class of these data is right: what a probe that knows nothing can reach.
fn commonest(task: &Task, weightings: &Weightings) -> Result<Option<MetricRow>, Failure> {
    let Target::Classes { y, names } = &task.target else { return Ok(None) };
    let common = majority(y, names.len()).map_err(Failure::failed)?;
    let right: Vec<f64> = y.iter().map(|y| f64::from(u8::from(*y == common))).collect();
    let draws = weightings.mean(&right).map_err(Failure::failed)?;
    Ok(Some(MetricRow {
        subject: "majority".into(),
        kind: "baseline".into(),
        hook: "none".into(),
        layer: -1,
        horizon: 0,
        ..MetricRow::of("majority_accuracy", "share", draws.estimate())
    }))
}
