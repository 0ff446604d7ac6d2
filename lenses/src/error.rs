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
    /// A gradient that is NaN or infinite.
    #[error("the gradient of layer {0} (counted among those fitted) is not finite")]
    Gradient(usize),
    /// A matrix that has no Cholesky factorisation.
    #[error("{what} ({n} × {n}) is singular or not finite, even with {lambda:.1e} added to its diagonal")]
    NoCholesky {
        /// The matrix, as the message calls it.
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
        optimizer: crate::fit::FirstOrder,
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
    /// A batch lacks the states of a layer that is being fitted.
    #[error("the batch has no states of layer {layer}")]
    NoStates {
        /// The layer.
        layer: crate::LayerIndex,
    },
    /// A state is NaN or infinite.
    #[error("{what}: row {row} of the batch is not finite")]
    NonFinite {
        /// What the rows are, such as `layer 3`.
        what: String,
        /// The first such row of the batch.
        row: usize,
    },
    /// Fast sweeps that are further from exact ones than they may be.
    #[error(
        "the fast readout is off by {off:.3} nats (root mean square over {rows} rows that were read exactly as well; \
         {bound} is the bound): this model needs the exact readout"
    )]
    Imprecise {
        /// Root mean square of the differences, nats.
        off: f64,
        /// Rows compared.
        rows: u64,
        /// What it may be.
        bound: f64,
    },
    /// States and their targets do not come in pairs.
    #[error("{x} rows of states, but {y} of their targets")]
    Pairs {
        /// Rows of states.
        x: usize,
        /// Rows of targets.
        y: usize,
    },
    /// The lengths of the runs do not add up to the rows of the batch.
    #[error("runs of {runs} rows in all, but the batch has {rows}")]
    Runs {
        /// The sum of the run lengths.
        runs: usize,
        /// Rows of the batch.
        rows: usize,
    },
    /// A closed form was asked for before any row came.
    #[error("{what}: no rows to fit on")]
    NoRows {
        /// What would be fitted.
        what: String,
    },
    /// A ridge that is negative or not a number.
    #[error("ridge {0} is not a number >= 0")]
    Ridge(f64),
    /// The rows do not determine the map at this ridge.
    #[error(
        "{what}: singular Gram matrix: {n} rows do not determine a map over {d} dimensions at lambda {lambda:e}; \
         give more tokens or a larger --ridge"
    )]
    Singular {
        /// What was being fitted, such as `layer 3, horizon 2`.
        what: String,
        /// Rows that were summed.
        n: usize,
        /// Dimensions of the states.
        d: usize,
        /// What was added to the diagonal, absolute.
        lambda: f64,
    },
    /// A pair of layers that is not being fitted.
    #[error("no moments of layers {from} and {to} together")]
    NoPair {
        /// The earlier layer.
        from: crate::LayerIndex,
        /// The later layer.
        to: crate::LayerIndex,
    },
    /// States that do not vary in some direction, where their covariance would have to be inverted.
    #[error(
        "states do not vary in some direction at eigenvalue floor {floor:e}; give more tokens or a larger floor"
    )]
    Flat {
        /// The floor, relative to the largest eigenvalue.
        floor: f64,
    },
    /// A horizon outside those that are being fitted.
    #[error("horizon {got} is not one of 1..={max}")]
    Horizon {
        /// The horizon asked for.
        got: usize,
        /// The largest one.
        max: usize,
    },
    /// A dimension beyond the width of the states.
    #[error("dimension {dim} of states of width {d}")]
    Dimension {
        /// The dimension asked for.
        dim: usize,
        /// The width.
        d: usize,
    },
    /// A checkpoint lacks a tensor.
    #[error("the checkpoint has no tensor {name:?}")]
    NotSaved {
        /// Its name.
        name: String,
    },
    /// A tensor of a checkpoint has another shape or kind.
    #[error("checkpoint tensor {name:?}: expected {expected}, got {got}")]
    Saved {
        /// Its name.
        name: String,
        /// The kind and shape that are needed.
        expected: String,
        /// The kind and shape that came.
        got: String,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
