//! layerscope reads what a language model is thinking, layer by layer.
//!
//! ```text
//! text -> tokens -> forward(tap) -> residuals per layer -> lens -> statistics
//!                                \-> activations in Parquet
//! ```
//!
//! [`text`] cuts documents into windows of tokens; [`model`] runs a Hugging Face checkpoint over them; a
//! [`hook::Tap`] watches or edits it on the way; [`export`] streams what it saw into a [`store`];
//! [`generate`] goes on from a prompt; [`trajectory`] reads one through a lens, layer by layer; [`report`] draws what finished runs found, with [`figure`].

pub mod calibration;
pub mod hook;
pub mod intervene;
pub mod lens;
pub mod model;
pub mod probe;
pub mod sources;
pub mod states;

pub use layerscope_lenses as lenses;
pub use layerscope_probes as probes;
pub use layerscope_results as results;
