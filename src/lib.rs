//! layerscope reads what a language model is thinking, layer by layer.
//!
//! ```text
//! text -> tokens -> forward(tap) -> residuals per layer -> lens -> statistics
//!                                \-> activations in Parquet
//! ```
//!
//! [`model`] runs a Hugging Face checkpoint; a [`hook::Tap`] watches or edits it on the way.

pub mod device;
pub mod hook;
pub mod hub;
pub mod model;
pub mod verify;

pub use layerscope_lenses as lenses;
