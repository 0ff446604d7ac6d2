//! `probe transfer`: probes read on other sets and other layers.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    hook::HookPoint,
    probe::{
        Estimator, Features, Kept, Options, Protocol, RareClass, Round, Set, Target, Treatment, rounds,
        transfer, without_rare,
    },
    results::run::{Counts, Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
    sources::labelled::LabelValues,
    sources::leakage::{Basis, Leakage},
    sources::text::Tokenizer,
};
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, ModelArgs},
        exit::Failure,
        inputs,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        numbers::{LEGEND, with_interval},
        output::{Output, shown},
        session::Session,
        table::Table,
    },
    ended,
    labels::{LabelArgs, Labelled, PointArgs, RareArgs},
};
use crate::cli::intervals::IntervalArgs;

/// Test probes on other data sets and at other layers than they were fitted on
///
/// Each --data file is a set with its own split; all have the same classes.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Labelled sets, one file each
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    rare: RareArgs,
    #[command(flatten)]
    points: PointArgs,
    /// The probe
    #[arg(long, value_enum, default_value_t = Estimator::Logistic, value_name = "PROBE")]
    probe: Estimator,
    /// L2 penalties to choose from on the validation part
    #[arg(long, value_delimiter = ',', default_value = "0.1,1,10,100,1000,10000", value_name = "LAMBDAS")]
    l2: Vec<f64>,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Seed of the bootstrap; --seed is that of the split
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    bootstrap_seed: u64,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// One set, ready to run.
struct Ready {
    name: String,
    labelled: Labelled,
    round: Round,
}

impl TransferArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let session = Session::open(&self.model, output)?;
        session.announce(output);
        let tokenizer = session.tokenizer(&self.model)?;
        let sets = self.ready(&session, &tokenizer, output)?;
        check_sets(&sets, self.probe, self.labels.paired())?;
        let points = self.points.resolve(&session)?;
        let mut manifest = self.manifest(&session, &tokenizer, &sets, &points, output)?;
        self.leakage.judge(between(&sets), &mut manifest, output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.report(&read_metrics(&self.out)?, output);
        }
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p.starts_with("sets"))?;
        let folder = |number: usize| self.out.join("sets").join(number.to_string());
        let features: Vec<Vec<Features>> = sets
            .iter()
            .enumerate()
            .map(|(number, set)| set.labelled.features(&folder(number), &session, &points))
            .collect();
        let jobs: Vec<_> =
            features.iter().map(Vec::as_slice).zip(sets.iter().map(|set| &set.labelled)).collect();
        self.labels.states(&session, &jobs, &stop, output)?;
        let named: Vec<(String, usize)> = (0..points.len())
            .map(|place| features[0][0].name(place))
            .map(|(hook, layer)| (hook.to_owned(), layer))
            .collect();
        let of = |(set, features)| {
            let Ready { name, labelled, round }: &Ready = set;
            let features: &Vec<Features> = features;
            Set { name, task: &labelled.task, round, features }
        };
        let tested: Vec<Set<'_>> = sets.iter().zip(&features).map(of).collect();
        let paired = self.labels.paired();
        let options = Options { l2: self.l2.clone(), standardise: true, balanced: false, paired };
        let intervals = self.intervals.policy(self.bootstrap_seed);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(session.threads).build()?;
        let bar = output.bar("fitting and testing", "cells", Some(2 * (sets.len() * points.len()) as u64));
        let done = || {
            bar.inc(1);
            stop.load(Ordering::Relaxed)
        };
        let rows = pool.install(|| transfer(&tested, &named, self.probe, &options, intervals, &done));
        bar.finish_and_clear();
        let rows = rows.map_err(ended)?;
        write_metrics(&self.out, &rows)?;
        let sizes = sets.iter().map(|set| set.labelled.size());
        let (documents, tokens) = sizes.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        self.report(&rows, output)
    }

    /// Every set, without the classes that are too rare in one of them, and its split.
    fn ready(&self, session: &Session, tokenizer: &Tokenizer, output: Output) -> Result<Vec<Ready>, Failure> {
        let protocol = Protocol { seed: self.common.seed, seeds: 1, kfold: None };
        let (mut sets, mut rare, mut how) = (Vec::new(), Vec::<RareClass>::new(), self.rare.rule().how);
        for path in &self.data {
            let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            output.note(&name);
            let labelled = self.labels.read(std::slice::from_ref(path), session, tokenizer, output)?;
            let kept = without_rare(&labelled.task, protocol, self.rare.rule()).map_err(Failure::usage)?;
            if let Some(kept) = kept {
                // Where they are too rare even together, they are left out everywhere.
                how = if kept.how == Treatment::Drop { Treatment::Drop } else { how };
                rare.extend(
                    kept.rare
                        .into_iter()
                        .filter(|c| rare.iter().all(|other| other.name != c.name))
                        .collect::<Vec<_>>(),
                );
            }
            sets.push((name, labelled));
        }
        let ready = |(name, mut labelled): (String, Labelled)| -> Result<Ready, Failure> {
            if let Target::Classes { names, .. } = &labelled.task.target {
                let own: Vec<RareClass> = rare.iter().filter(|c| names.contains(&c.name)).cloned().collect();
                let kept =
                    Kept::new(names, own, how, "3 groups in every set".into()).map_err(Failure::usage)?;
                labelled.without(Some(kept).filter(|kept| !kept.rare.is_empty()), output);
            }
            let round = rounds(&labelled.task, protocol).map_err(Failure::usage)?.remove(0);
            Ok(Ready { name, labelled, round })
        };
        sets.into_iter().map(ready).collect()
    }

    fn manifest(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        sets: &[Ready],
        points: &[HookPoint],
        output: Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = session.manifest("probe transfer", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        let names: Vec<String> = self.data.iter().map(|path| path.display().to_string()).collect();
        manifest.data = inputs::hashes(&self.data, &names)?;
        let own = [
            ("probe", json!(self.probe.name())),
            ("l2", json!(self.l2)),
            ("intervals", self.intervals.config()),
            ("bootstrap_seed", json!(self.bootstrap_seed)),
        ];
        manifest.config = self.labels.config(&sets[0].labelled, points).into_iter().chain(own).collect();
        Ok(manifest)
    }

    /// At every layer, every set's probe on every set; then of each set every layer's probe on every layer.
    fn report(&self, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
        let metric = rows.first().map_or("accuracy", |row| row.metric.as_str());
        let across = || rows.iter().filter(|r| r.kind == "generalisation" && r.metric == metric);
        let mut pairs: Vec<&str> = Vec::new();
        for row in across() {
            if !pairs.contains(&row.subject.as_str()) {
                pairs.push(&row.subject);
            }
        }
        let places = layers(rows.iter().filter(|r| r.kind == "generalisation"));
        let mut table = Table::new(["layer"].into_iter().chain(pairs.iter().copied()));
        for (hook, layer) in &places {
            let cell = |pair: &&str| {
                let row =
                    across().find(|r| r.subject == *pair && (r.hook.as_str(), r.layer) == (hook, *layer));
                row.map_or_else(String::new, with_interval)
            };
            table.row(std::iter::once(format!("{hook} {layer}")).chain(pairs.iter().map(cell)));
        }
        let mut text =
            format!("{metric} of a probe fitted on one set and tested on another ({LEGEND})\n{table}");
        let within = || rows.iter().filter(|r| r.kind == "probe-transfer");
        let mut subjects: Vec<&str> = Vec::new();
        for row in within() {
            if !subjects.contains(&row.subject.as_str()) {
                subjects.push(&row.subject);
            }
        }
        for subject in subjects {
            let own = || within().filter(|r| r.subject == subject);
            let places = layers(own());
            let mut table = Table::new(
                ["layer of the probe".to_owned()]
                    .into_iter()
                    .chain(places.iter().map(|(_, l)| l.to_string())),
            );
            for (hook, from) in &places {
                let cell = |(other, to): &(&str, i32)| {
                    let same = |r: &&MetricRow| {
                        (r.hook.as_str(), r.layer, r.source_layer) == (*other, *to, Some(*from))
                            && hook == other
                    };
                    own().find(same).map_or_else(String::new, |r| format!("{:.3}", r.estimate))
                };
                table.row(std::iter::once(format!("{hook} {from}")).chain(places.iter().map(cell)));
            }
            let _ = write!(
                text,
                "\n{subject}: {metric} of a layer's probe (rows) on a layer's states (columns)\n{table}"
            );
        }
        output.print(text.trim_end())?;
        output.wrote(&self.out, "all numbers with their intervals");
        output.result(json!({ "out": shown(&self.out), "rows": rows.len() }))?;
        Ok(())
    }
}

/// The test part of every set against what the probe of every other is fitted on.
fn between(sets: &[Ready]) -> Vec<Leakage> {
    let mut found = Vec::new();
    for from in sets {
        let fitted = from.labelled.fitted_on(&from.round);
        for to in sets.iter().filter(|to| to.name != from.name) {
            let texts = to.labelled.texts(to.round.test.iter().copied());
            let overlap = fitted.overlap_of_texts(texts.iter().map(|(text, items)| (text.as_str(), *items)));
            let (name, part) =
                (format!("the probe of {}", from.name), format!("the test part of {}", to.name));
            found.push(Leakage::found(name, &part, Basis::Words, overlap));
        }
    }
    found
}

/// Hooks and layers, in order.
fn layers<'a>(rows: impl Iterator<Item = &'a MetricRow>) -> Vec<(&'a str, i32)> {
    let mut places: Vec<(&str, i32)> = rows.map(|r| (r.hook.as_str(), r.layer)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// All sets must have the same classes, names of their own, and labels that the probe fits.
fn check_sets(sets: &[Ready], probe: Estimator, paired: bool) -> Result<(), Failure> {
    let names = |set: &Ready| match &set.labelled.sides[0].plan.labels {
        LabelValues::Classes { names, .. } => Some(names.clone()),
        LabelValues::Numbers(_) => None,
    };
    for (number, set) in sets.iter().enumerate() {
        if names(set) != names(&sets[0]) {
            return Err(Failure::usage(anyhow!(
                "{} has the classes {}, {} has {}: a probe cannot be read across them",
                sets[0].name,
                names(&sets[0]).unwrap_or_default().join(", "),
                set.name,
                names(set).unwrap_or_default().join(", ")
            )));
        }
        if sets[..number].iter().any(|other| other.name == set.name) {
            return Err(Failure::usage(anyhow!("--data: two sets are called {}", set.name)));
        }
        if !probe.suits(set.labelled.task.n_classes(), paired) {
            return Err(Failure::usage(anyhow!(
                "--probe {}: it does not fit the labels of {}",
                probe.name(),
                set.name
            )));
        }
    }
    Ok(())
}
