//! Probes over a model's layers: states of labelled items, a sweep over layers, hooks and splits, and honest numbers.
//!
//! ```text
//! labelled::Plan ── extract ──> Features (one npy file per hook and layer)
//!        └── Task (labels, groups, types) ── sweep ──> a Cell per hook, layer and split ── results ──> metrics.parquet
//! ```
//!
//! The maths is in [`layerscope_probes`]; here it meets models, files and the run directory. A cell is fitted on one
//! thread, cells run side by side, and each is written as it ends, so that a sweep that was killed goes on.

use crate::watch::Stopped;
mod applied;
mod baseline;
mod cell;
mod estimator;
mod exported;
mod features;
mod labelling;
mod law;
mod permuted;
mod rare;
mod results;
pub mod saved;
mod split;
mod streamed;
mod task;
mod transfer;

pub use applied::{Applied, SCORES, write_scores};
pub use baseline::{Baseline, baselines};
pub use cell::{Cell, CellKey, Code, Extras, Reading, run_cell};
pub use estimator::{Estimator, Fitted, Options};
pub use exported::from_export;
pub use features::{Features, extract, side_by_side};
pub use law::{
    Control, Law, LawRow, NoDecay, Norming, Residuals, Sample, Sides, blocks, decay, disagreement, documents,
};
pub use permuted::{PermutationTest, exchange};
pub use rare::{Kept, RareClass, RareRule, TOGETHER, Treatment, without_rare};
pub use results::{Measured, Nested, Summary, results, undefined};
pub use split::{Protocol, Round, rounds};
pub use streamed::Stream;
pub use task::{Target, Task};
pub use transfer::{Set, transfer};

/// A probe that cannot be fitted or measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The maths.
    #[error("{place}: {source}")]
    Probe {
        /// Hook, layer and split, or what else was at work.
        place: String,
        /// What the part below said; it is the cause of this error.
        source: layerscope_probes::Error,
    },
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// A file cannot be written or read.
    #[error(transparent)]
    Run(#[from] crate::results::run::RunError),
    /// An export cannot be read.
    #[error(transparent)]
    Store(Box<crate::states::store::StoreError>),
    /// The export is not of these texts.
    #[error("the export has {found} where the text {text} has {expected}")]
    OtherText {
        /// File and line.
        text: String,
        /// The token of the text.
        expected: String,
        /// The export's.
        found: String,
    },
    /// A target of the law with one value alone.
    #[error(
        "the target {0} has one value in this text, fitted or held out: nothing to regress on; give more text"
    )]
    FlatTarget(&'static str),
    /// Fewer than two classes are not too rare.
    #[error("{left}, where a class needs {needs}; too rare: {rare}")]
    TooRare {
        /// What is left.
        left: String,
        /// What a class needs.
        needs: String,
        /// The rare ones.
        rare: String,
    },
    /// A class has the name that the rare ones get together.
    #[error("there is a class {0:?} already: the rare ones cannot be taken together under this name")]
    NameTaken(&'static str),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
}

impl From<crate::states::store::StoreError> for ProbeError {
    fn from(error: crate::states::store::StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl ProbeError {
    /// Names where the maths failed.
    pub(crate) fn at(place: impl Into<String>) -> impl FnOnce(layerscope_probes::Error) -> Self {
        let place = place.into();
        move |source| Self::Probe { place, source }
    }

    /// As [`Self::at`], of labels whose classes have these names.
    pub(crate) fn of(place: impl Into<String>, task: &Task) -> impl FnOnce(layerscope_probes::Error) -> Self {
        let place = place.into();
        move |source| match &task.target {
            Target::Classes { names, .. } => Self::Probe { place, source: source.named(names) },
            Target::Numbers(_) => Self::Probe { place, source },
        }
    }
}
