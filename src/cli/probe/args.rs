//! The options of `probe sweep`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, builder::ArgPredicate};
use layerscope::probe::{Estimator, Extras, Options, Protocol};

use super::{
    super::args::{CommonArgs, ModelArgs},
    labels::{LabelArgs, PointArgs, RareArgs},
};
use crate::cli::intervals::IntervalArgs;

/// Fit probes to labelled data at every layer, with baselines, controls and intervals
///
/// Killed and repeated, it goes on with the cells that are missing and ends with the same bytes.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(super) model: OptionalModel,
    /// In place of running the model: an export of the same files at the positions that are read
    #[arg(long, value_name = "EXPORT")]
    pub(super) activations: Option<PathBuf>,
    /// Labelled data: .csv, .tsv, .jsonl, .json, .parquet or .conllu
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub(super) data: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) labels: LabelArgs,
    #[command(flatten)]
    pub(super) rare: RareArgs,
    #[command(flatten)]
    pub(super) points: PointArgs,
    /// Probes; by default logistic and lda (and mean-diff for two classes; ccs and crc for pairs), ridge for numbers
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., value_name = "PROBE")]
    pub(super) probe: Vec<Estimator>,
    /// Number of splits, seeded from --seed on, as shuffles and control labels are; numbers are means over them
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: usize,
    /// Folds instead of one test part per split
    #[arg(long, value_name = "K")]
    kfold: Option<usize>,
    /// L2 penalties to choose from on the validation part
    #[arg(long, value_delimiter = ',', default_value = "0.1,1,10,100,1000,10000", value_name = "LAMBDAS")]
    l2: Vec<f64>,
    /// Weigh classes equally in logistic regression
    #[arg(long)]
    balanced: bool,
    /// Do not z-score states by the training part
    #[arg(long)]
    no_standardise: bool,
    /// Draws of control labels (words and spans) and of shuffled labels at every split; 0 leaves them out
    #[arg(long, default_value_t = 5, value_name = "N")]
    control_draws: usize,
    /// Orders of the online code (MDL) of the logistic probe, each also with shuffled labels; 0 leaves it out
    #[arg(long, default_value_t = 3, value_name = "N")]
    mdl: usize,
    /// Keep no states on disk: sum in one pass over the texts and score in later ones (ridge, mean-diff, lda, centroid)
    #[arg(long, conflicts_with_all = ["activations", "negation_column", "permutations"])]
    pub(super) stream: bool,
    /// Permutations of the labels on the first split, for p-values; 0 leaves them out
    #[arg(long, default_value_t = 0, value_name = "N")]
    permutations: usize,
    #[command(flatten)]
    pub(super) intervals: IntervalArgs,
    /// Seed of the bootstrap; --seed is that of splits, shuffles and control labels
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(super) bootstrap_seed: u64,
    /// Start over in a folder that holds another run
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl SweepArgs {
    pub(super) fn protocol(&self) -> Protocol {
        Protocol { seed: self.common.seed, seeds: self.seeds, kfold: self.kfold }
    }

    pub(super) fn options(&self) -> Options {
        Options {
            l2: self.l2.clone(),
            standardise: !self.no_standardise,
            balanced: self.balanced,
            paired: self.labels.paired(),
        }
    }

    pub(super) fn extras(&self) -> Extras {
        Extras { draws: self.control_draws, mdl: self.mdl, permutations: self.permutations }
    }
}

/// A model, which the manifest of `--activations` can stand for: then its name is empty.
#[derive(Debug)]
pub(super) struct OptionalModel(pub(super) ModelArgs);

impl Args for OptionalModel {
    fn augment_args(command: Command) -> Command {
        ModelArgs::augment_args(command).mut_arg("model", |model| {
            model.required(false).required_unless_present("activations").default_value_if(
                "activations",
                ArgPredicate::IsPresent,
                "",
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OptionalModel {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        ModelArgs::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
