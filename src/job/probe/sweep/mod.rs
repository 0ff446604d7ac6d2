//! `probe sweep`: labelled data, states, cells, numbers.

mod cells;
mod design;
mod finish;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LabelSettings, PointSettings, RareSettings, check_l2, default_l2, open_export};
use crate::{
    job::{
        IntervalSettings, Job, JobError, LeakageSettings, ModelSettings, Session, Setting, Watch, claimed,
    },
    probe::{Estimator, Extras, Options, Protocol, saved},
    results::run::{Found, METRICS, RunDir, read_metrics},
    states::store::ActivationStore,
};

pub use finish::{Summarised, Swept};

use design::Design;

/// Fit probes to labelled data at every layer, with baselines, controls and intervals
///
/// Killed and repeated, it goes on with the cells that are missing and ends with the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("model", optional)))]
pub struct Sweep {
    /// The model, for which the manifest of `activations` can stand: then its name is empty.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// In place of running the model: an export of the same files at the positions that are read
    #[cfg_attr(feature = "cli", arg(long, value_name = "EXPORT"))]
    pub activations: Option<PathBuf>,
    /// Labelled data: .csv, .tsv, .jsonl, .json, .parquet or .conllu
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "FILE"))]
    pub data: Vec<PathBuf>,
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
    /// Probes; by default logistic and lda (and mean-diff for two classes; ccs and crc for pairs), ridge for numbers
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_delimiter = ',', num_args = 1.., value_name = "PROBE"))]
    pub probe: Vec<Estimator>,
    /// Number of splits, seeded from --seed on, as shuffles and control labels are; numbers are means over them
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 3, value_name = "N"))]
    pub seeds: usize,
    /// Folds instead of one test part per split
    #[cfg_attr(feature = "cli", arg(long, value_name = "K"))]
    pub kfold: Option<usize>,
    /// L2 penalties to choose from on the validation part
    #[cfg_attr(
        feature = "cli",
        arg(long, value_delimiter = ',', default_value = "0.1,1,10,100,1000,10000", value_name = "LAMBDAS")
    )]
    pub l2: Vec<f64>,
    /// Weigh classes equally in logistic regression
    #[cfg_attr(feature = "cli", arg(long))]
    pub balanced: bool,
    /// Do not z-score states by the training part
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_standardise: bool,
    /// Draws of control labels (words and spans) and of shuffled labels at every split; 0 leaves them out
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 5, value_name = "N"))]
    pub control_draws: usize,
    /// Orders of the online code (MDL) of the logistic probe, each also with shuffled labels; 0 leaves it out
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 3, value_name = "N"))]
    pub mdl: usize,
    /// Keep no states on disk: sum in one pass over the texts and score in later ones (ridge, mean-diff, lda, centroid)
    #[cfg_attr(feature = "cli", arg(long, conflicts_with_all = ["activations", "negation_column", "permutations"]))]
    pub stream: bool,
    /// Permutations of the labels on the first split, for p-values; 0 leaves them out
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub permutations: usize,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Seed of the bootstrap; --seed is that of splits, shuffles and control labels
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "SEED"))]
    pub bootstrap_seed: u64,
    /// What is done about equal texts on both sides of a split.
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

/// A model that need not be named where an export names it: then its name is empty, which a path of clap's own may not
/// be.
#[cfg(feature = "cli")]
fn optional(model: clap::Arg) -> clap::Arg {
    use clap::builder::{ArgPredicate, OsStringValueParser, TypedValueParser as _};

    model
        .value_parser(OsStringValueParser::new().map(PathBuf::from))
        .required(false)
        .required_unless_present("activations")
        .default_value_if("activations", ArgPredicate::IsPresent, "")
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            activations: None,
            data: Vec::new(),
            out: PathBuf::new(),
            labels: LabelSettings::default(),
            rare: RareSettings::default(),
            points: PointSettings::default(),
            probe: Vec::new(),
            seeds: 3,
            kfold: None,
            l2: default_l2(),
            balanced: false,
            no_standardise: false,
            control_draws: 5,
            mdl: 3,
            stream: false,
            permutations: 0,
            intervals: IntervalSettings::default(),
            bootstrap_seed: 0,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

impl Job for Sweep {
    const COMMAND: &'static str = "probe sweep";
    type Outcome = Swept;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Swept, JobError> {
        self.check()?;
        let store = self.store()?;
        let session = Session::open(&self.model(store.as_ref()), watch)?;
        session.announce(watch);
        let design = self.design(&session, watch)?;
        let manifest = self.manifest(&session, &design, store.as_ref(), watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Swept { rows: read_metrics(&self.out)?, new: None });
        }
        let dir = claim.begin(&owns)?;
        let features = design.labelled.features(&self.out, &session, &design.points);
        let cells = if self.stream {
            self.streamed(&session, &design, watch)?
        } else {
            self.states(&session, &design, (&features, store.as_ref()), watch)?;
            self.cells(&session, &design, &features, watch)?
        };
        self.finish(dir, &session, &design, (&features[0], &cells))
    }
}

impl Sweep {
    /// Refuses settings that contradict each other.
    fn check(&self) -> Result<(), JobError> {
        if self.model.model.as_os_str().is_empty() && self.activations.is_none() {
            let either = format!("none is named, and there are no {} to name it", Setting("activations"));
            return Err(JobError::setting("model", either));
        }
        check_l2(&self.l2)?;
        let kept = [
            ("activations", self.activations.is_some()),
            ("negation_column", self.labels.paired()),
            ("permutations", self.permutations > 0),
        ];
        match kept.iter().find(|(_, set)| self.stream && *set) {
            Some((name, _)) => {
                Err(JobError::setting("stream", format!("not together with {}", Setting(name))))
            }
            None => Ok(()),
        }
    }

    /// The export to read.
    fn store(&self) -> Result<Option<ActivationStore>, JobError> {
        let Some(path) = &self.activations else { return Ok(None) };
        open_export(path, &self.labels).map(Some)
    }

    /// The model, which the export can name.
    fn model(&self, store: Option<&ActivationStore>) -> ModelSettings {
        let mut model = self.model.clone();
        if let Some(store) = store.filter(|_| model.model.as_os_str().is_empty()) {
            let made_by = store.manifest().model.as_ref();
            model.model = made_by.map_or_else(PathBuf::new, |made_by| made_by.path.clone().into());
        }
        model
    }

    fn protocol(&self) -> Protocol {
        Protocol { seed: self.seed, seeds: self.seeds, kfold: self.kfold }
    }

    fn options(&self) -> Options {
        Options {
            l2: self.l2.clone(),
            standardise: !self.no_standardise,
            balanced: self.balanced,
            paired: self.labels.paired(),
        }
    }

    fn extras(&self) -> Extras {
        Extras { draws: self.control_draws, mdl: self.mdl, permutations: self.permutations }
    }
}

/// The files of a sweep.
fn owns(relative: &Path) -> bool {
    [METRICS, "features", "negations", "cells", saved::FOLDER].iter().any(|name| relative.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Ending;

    #[test]
    fn what_contradicts_itself_is_refused_before_anything_is_read() {
        let message = |job: Sweep| job.run(&()).err().map(|e| (e.ending(), e.to_string())).unwrap();
        let usage = |text: &str| (Ending::Usage, text.to_owned());
        let nameless = "model: none is named, and there are no activations to name it";
        assert_eq!(message(Sweep::default()), usage(nameless));
        let sweep = || Sweep { model: ModelSettings::new("m"), stream: true, ..Sweep::default() };
        let permuted = Sweep { permutations: 9, ..sweep() };
        assert_eq!(message(permuted), usage("stream: not together with permutations"));
        let exported = Sweep { activations: Some("e".into()), ..sweep() };
        assert_eq!(message(exported), usage("stream: not together with activations"));
        let paired = LabelSettings { negation_column: Some("not".into()), ..LabelSettings::default() };
        assert_eq!(
            message(Sweep { labels: paired.clone(), ..sweep() }),
            usage("stream: not together with negation_column")
        );
        let (activations, stream) = (Some("e".into()), false);
        assert_eq!(
            message(Sweep { labels: paired, activations, stream, ..sweep() }),
            usage("activations: an export has one text a row; pairs (negation_column) are read with model")
        );
        assert_eq!(message(Sweep { l2: Vec::new(), ..sweep() }), usage("l2: there is no penalty to choose"));
    }
}
