//! The Jacobian lens: what a state, a little changed, changes in the last layer, on average over a corpus.

mod estimate;
mod lens;
mod sums;

pub use estimate::Jacobian;
pub use lens::JacobianLens;
pub use sums::JacobianSums;
