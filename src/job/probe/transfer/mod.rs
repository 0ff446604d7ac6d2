//! `probe transfer`: probes read on other sets and other layers.

mod sets;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    LabelSettings, PointSettings, RareSettings, check_l2, check_made_by, default_l2, ended, from_store,
    manifest, names, open_export, threads,
};
use crate::{
    hook::HookPoint,
    job::{IntervalSettings, Job, JobError, LeakageSettings, ModelSettings, Session, Watch, claimed},
    probe::{self, Estimator, Features, Options, Set},
    results::run::{Counts, Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
    sources::text::Tokenizer,
    states::store::ActivationStore,
};

use sets::{Ready, between, check_sets};

/// Test probes on other data sets and at other layers than they were fitted on
///
/// Each --data file is a set with its own split; all have the same classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Transfer {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Labelled sets, one file each
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "FILE"))]
    pub data: Vec<PathBuf>,
    /// In place of running the model: exports of these files at the positions that are read, one per set and in their
    /// order
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., value_name = "EXPORT"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// How labels and states are read.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub labels: LabelSettings,
    /// What is done about rare classes.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub rare: RareSettings,
    /// Where states are read.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub points: PointSettings,
    /// The probe
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Estimator::Logistic, value_name = "PROBE"))]
    pub probe: Estimator,
    /// L2 penalties to choose from on the validation part
    #[cfg_attr(
        feature = "cli",
        arg(long, value_delimiter = ',', default_value = "0.1,1,10,100,1000,10000", value_name = "LAMBDAS")
    )]
    pub l2: Vec<f64>,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Seed of the bootstrap; --seed is that of the split
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "SEED"))]
    pub bootstrap_seed: u64,
    /// What is done about leakage.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub leakage: LeakageSettings,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            data: Vec::new(),
            activations: Vec::new(),
            out: PathBuf::new(),
            labels: LabelSettings::default(),
            rare: RareSettings::default(),
            points: PointSettings::default(),
            probe: Estimator::Logistic,
            l2: default_l2(),
            intervals: IntervalSettings::default(),
            bootstrap_seed: 0,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// How probes did elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Transferred {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for Transfer {
    const COMMAND: &'static str = "probe transfer";
    type Outcome = Transferred;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Transferred, JobError> {
        check_l2(&self.l2)?;
        if self.data.is_empty() {
            return Err(JobError::setting("data", "no set is named"));
        }
        let stores = self.stores()?;
        let session = Session::open(&self.model, watch)?;
        session.announce(watch);
        let tokenizer = session.tokenizer(watch)?;
        let sets = self.ready(&session, &tokenizer, watch)?;
        check_sets(&sets, self.probe, self.labels.paired())?;
        let points = self.points.resolve(&session)?;
        let mut manifest = self.manifest((&session, &tokenizer), (&sets, &stores), &points, watch)?;
        self.leakage.judge(between(&sets), &mut manifest, watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Transferred { rows: read_metrics(&self.out)? });
        }
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p.starts_with("sets"))?;
        let features = self.features(&session, (&sets, &stores), &points, watch)?;
        let rows = self.test(&session, (&sets, &features), &points, watch)?;
        write_metrics(&self.out, &rows)?;
        let sizes = sets.iter().map(|set| set.labelled.size());
        let (documents, tokens) = sizes.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        Ok(Transferred { rows })
    }
}

impl Transfer {
    /// The exports, one per set.
    fn stores(&self) -> Result<Vec<ActivationStore>, JobError> {
        let (given, wanted) = (self.activations.len(), self.data.len());
        if given > 0 && given != wanted {
            let line = format!("{given} of them, but {wanted} sets; give one per set, in their order");
            return Err(JobError::setting("activations", line));
        }
        self.activations.iter().map(|path| open_export(path, &self.labels)).collect()
    }

    fn manifest(
        &self,
        (session, tokenizer): (&Session, &Tokenizer),
        (sets, stores): (&[Ready], &[ActivationStore]),
        points: &[HookPoint],
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = manifest(self, (session, tokenizer), (&self.data, self.seed), watch)?;
        for (store, path) in stores.iter().zip(&self.activations) {
            check_made_by(store, path, manifest.model.as_ref(), session)?;
        }
        let own = [
            ("probe", json!(self.probe)),
            ("l2", json!(self.l2)),
            ("intervals", self.intervals.config()),
            ("bootstrap_seed", json!(self.bootstrap_seed)),
        ];
        let exported = (!stores.is_empty())
            .then(|| ("activations", json!(stores.iter().map(|s| &s.manifest().job).collect::<Vec<_>>())));
        let labels = self.labels.config(&sets[0].labelled, points);
        manifest.config = labels.into_iter().chain(own).chain(exported).collect();
        Ok(manifest)
    }

    /// The states of every set, from the model where they are not there yet.
    fn features(
        &self,
        session: &Session,
        (sets, stores): (&[Ready], &[ActivationStore]),
        points: &[HookPoint],
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Features>>, JobError> {
        let folder = |number: usize| self.out.join("sets").join(number.to_string());
        let features: Vec<Vec<Features>> = sets
            .iter()
            .enumerate()
            .map(|(number, set)| set.labelled.features(&folder(number), session, points))
            .collect();
        for ((features, set), store) in features.iter().zip(sets).zip(stores) {
            from_store(&features[0], store, &set.labelled, watch)?;
        }
        let pairs: Vec<_> =
            features.iter().map(Vec::as_slice).zip(sets.iter().map(|set| &set.labelled)).collect();
        self.labels.states(session, &pairs, watch)?;
        Ok(features)
    }

    /// Fits a probe to every set at every point, and tests it on the others.
    fn test(
        &self,
        session: &Session,
        (sets, features): (&[Ready], &[Vec<Features>]),
        points: &[HookPoint],
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let points = names(&features[0][0], points);
        let tested: Vec<Set<'_>> = sets
            .iter()
            .zip(features)
            .map(|(Ready { name, labelled, round }, features)| Set {
                name,
                task: &labelled.task,
                round,
                features,
            })
            .collect();
        let paired = self.labels.paired();
        let options = Options { l2: self.l2.clone(), standardise: true, balanced: false, paired };
        let intervals = self.intervals.policy(self.bootstrap_seed);
        let cells = 2 * (sets.len() * points.len()) as u64;
        let stage = watch.begin("fitting and testing", "cells", Some(cells));
        threads(session)?
            .install(|| probe::transfer(&tested, &points, self.probe, &options, intervals, &stage))
            .map_err(ended)
    }
}
