/// What can go wrong in a lens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch refused an operation; only the first line of its message is kept.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A tensor has another shape than the lens needs.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// What the tensor is.
        what: &'static str,
        /// The shape that is needed, in words.
        expected: String,
        /// The shape that came.
        got: Vec<i64>,
    },
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(String),
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    Token {
        /// The id.
        id: i64,
        /// Tokens there are.
        vocab: i64,
    },
    /// A NaN or infinite number.
    #[error("{what} of row {row} are not finite")]
    NotFinite {
        /// What was computed.
        what: &'static str,
        /// The row.
        row: usize,
    },
    /// A matrix that has no Cholesky factorisation.
    #[error("{what} ({n} × {n}) is singular or not finite, even with {lambda:.1e} added to its diagonal")]
    Singular {
        /// Which.
        what: &'static str,
        /// Its size.
        n: usize,
        /// What was added.
        lambda: f64,
    },
    /// A first-order optimiser for a rung that shares something.
    #[error("{optimizer:?} fits tuned lenses only; the rung {rung} is fitted by K-FAC")]
    Optimizer {
        /// The optimiser.
        optimizer: crate::fit::Optimizer,
        /// The rung.
        rung: crate::Rung,
    },
    /// A lens has no translator for a layer.
    #[error("lens {lens:?} has no translator for layer {layer}")]
    NoTranslator {
        /// The lens.
        lens: String,
        /// The layer asked for.
        layer: crate::LayerIndex,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
