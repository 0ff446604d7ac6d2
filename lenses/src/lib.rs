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
mod layer;
mod lens;
mod logit;
mod norm;
pub mod stats;
pub mod torch_file;
mod tuned;
mod unembed;

pub use affine::Affine;
pub use error::Error;
pub use layer::{Horizon, LayerIndex};
pub use lens::Lens;
pub use logit::LogitLens;
pub use norm::{Norm, NormKind};
pub use tuned::TunedLens;
pub use unembed::Unembed;
