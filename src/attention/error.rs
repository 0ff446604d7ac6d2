use crate::{
    model::ModelError,
    results::{run::RunError, statistics::ScoreError},
    watch::Stopped,
};

/// Heads that cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum AttentionError {
    /// The model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A head's pattern is not finite.
    #[error("{point} is not finite: head {head}, document {document}")]
    NotFinite {
        /// The hook point, which names the layer.
        point: String,
        /// The head.
        head: usize,
        /// The document.
        document: u64,
    },
    /// What leaves the last block is not finite.
    #[error("{point} of the model {of} is not finite: document {document}")]
    Stream {
        /// The hook point.
        point: String,
        /// `as it is`, `without L1H0`.
        of: String,
        /// The document.
        document: u64,
    },
    /// What the model says cannot be read.
    #[error("the prediction of the model {of}: {source}")]
    Readout {
        /// `as it is`, `without L1H0`.
        of: String,
        /// What the part below said; it is the cause of this error.
        source: layerscope_lenses::Error,
    },
    /// The loss without a head is not finite.
    #[error("the logits of the model {of} are not finite: document {document}")]
    Loss {
        /// `as it is`, `without L1H0`.
        of: String,
        /// The document.
        document: u64,
    },
    /// Sums that do not fit each other.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// Too few ordinary tokens to make a text of different ones.
    #[error("{asked} different tokens in a text, but the vocabulary has {ordinary} ordinary ones")]
    Vocabulary {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        ordinary: usize,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for AttentionError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}
