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
mod error;
pub mod fit;
mod layer;
mod lens;
mod logit;
mod norm;
mod raw;
mod readout;
mod shared;
pub mod stats;
mod tuned;
mod unembed;
mod workers;

pub use affine::Affine;
pub use error::Error;
pub use layer::{Horizon, LayerIndex};
pub use lens::Lens;
pub use logit::LogitLens;
pub use norm::{Norm, NormKind};
pub use readout::{Ask, Precision, Read, Readout, Teacher, TokenRead};
pub use shared::{Rung, Translators};
pub use tuned::TunedLens;
pub use unembed::Unembed;
pub use workers::Workers;
