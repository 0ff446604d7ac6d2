//! The options of `probe sweep`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, builder::ArgPredicate};
use layerscope::{
    labelled::{LabelledOptions, Positions},
    probe::{Estimator, Options, Protocol},
};

use super::super::args::{CommonArgs, Layers, ModelArgs};

/// How labels and states are read.
#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// Column of the text; by default `text`
    #[arg(long, value_name = "NAME")]
    pub(super) text_column: Option<String>,
    /// Column of the label; by default `label`. In .conllu UPOS (the default), XPOS, DEPREL or a key such as Number
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Rows of equal value here (an entity, a template, a document) stay on one side of every split
    #[arg(long, value_name = "NAME")]
    pub(super) group_column: Option<String>,
    /// Columns with the first character of a span and the one behind its last
    #[arg(long, num_args = 2, value_names = ["START", "END"])]
    span_columns: Option<Vec<String>>,
    /// Labels are numbers to regress on, not classes
    #[arg(long)]
    numbers: bool,
    /// A missing label is an error, not left out and counted
    #[arg(long)]
    strict: bool,
    /// Tokens whose state is read; by default `last` of a text, `last-piece` of a word or span
    #[arg(long, value_enum, value_name = "POSITIONS")]
    pub(super) positions: Option<Positions>,
    /// Hooks: names, short names (`resid_pre`: every layer) or globs (`blocks.*.hook_mlp_out`)
    #[arg(long, num_args = 1.., default_value = "resid_pre", value_name = "GLOB")]
    pub(super) hooks: Vec<String>,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    pub(super) layers: Option<Layers>,
    /// Longest text in tokens; by default the model's context
    #[arg(long, value_name = "N")]
    pub(super) seq_len: Option<usize>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    pub(super) batch_tokens: Option<NonZeroUsize>,
}

impl LabelArgs {
    pub(super) fn options(&self) -> LabelledOptions {
        LabelledOptions {
            text_column: self.text_column.clone(),
            label_column: self.label_column.clone(),
            group_column: self.group_column.clone(),
            span_columns: self.span_columns.as_ref().map(|names| (names[0].clone(), names[1].clone())),
            numbers: self.numbers,
            strict: self.strict,
        }
    }
}

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
    /// Probes; by default logistic and lda (and mean-diff for two classes), ridge for numbers
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., value_name = "PROBE")]
    pub(super) probe: Vec<Estimator>,
    /// Number of splits, seeded from --seed on; numbers are means over them
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
    /// Shuffles of the online code (MDL) of the logistic probe; 0 leaves it out
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(super) mdl: usize,
    /// Bootstrap replicates
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(super) replicates: usize,
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
        Options { l2: self.l2.clone(), standardise: !self.no_standardise, balanced: self.balanced }
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
