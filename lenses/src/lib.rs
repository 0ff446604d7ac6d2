//! The vocabulary of the residual stream and every lens over it.
//!
//! A lens answers one question: what would the model say if it stopped here? It takes a residual
//! `h [.., d_model]` at a [`LayerIndex`], transforms it, and reads it out through the model's own
//! final norm and unembedding ([`Unembed`]):
//!
//! ```text
//! h --Lens::transform--> x --Unembed::normalize--> n --Unembed::head--> logits [.., vocab]
//! ```
//!
//! This crate sees tensors only. Model files, texts and tables belong to the root crate.

mod affine;
mod correct;
mod cross;
mod error;
mod features;
pub mod fit;
mod future;
mod future_fit;
mod geometry;
#[cfg(test)]
mod golden;
mod jacobian;
mod layer;
mod lens;
mod linear;
mod linear_fit;
mod logit;
mod moments;
#[cfg(test)]
mod noise;
mod norm;
mod raw;
mod readout;
mod ridge;
mod rows;
mod runs;
mod shared;
pub mod stats;
mod sum;
pub mod torch_file;
mod transform;
mod tuned;
mod unembed;
mod workers;

pub use affine::Affine;
pub use cross::CrossMoments;
pub use error::Error;
pub use features::{rotate, standardise};
pub use future::FutureLens;
pub use future_fit::FutureFit;
pub use geometry::{Geometry, outlier_dims};
pub use jacobian::{Jacobian, JacobianLens, JacobianSums};
pub use layer::{Horizon, LayerIndex};
pub use lens::Lens;
pub use linear::LinearLens;
pub use linear_fit::LinearFit;
pub use logit::LogitLens;
pub use moments::Moments;
pub use norm::{Norm, NormKind};
pub use readout::{Ask, Audit, Precision, Read, Readout, Teacher, TokenRead};
pub use ridge::{Regression, Ridge, Shrink};
pub use rows::Rows;
pub use shared::{Rung, Translators};
pub use sum::State;
pub use transform::{HeadActivation, Transform};
pub use tuned::TunedLens;
pub use unembed::Unembed;
pub use workers::Workers;
