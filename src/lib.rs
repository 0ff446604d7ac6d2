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

mod adamw;
pub mod artifact;
pub mod calibration;
pub mod causal;
pub mod device;
mod draw;
pub mod evaluate;
pub mod export;
pub mod figure;
pub mod fit;
pub mod future;
pub mod generate;
pub mod hash;
pub mod hook;
pub mod hub;
pub mod labelled;
pub mod leakage;
pub mod model;
pub mod page;
pub mod patch;
pub mod probe;
pub mod report;
pub mod run;
pub mod schedule;
pub mod score;
pub mod states;
pub mod steer;
pub mod store;
pub mod text;
pub mod think;
pub mod trajectory;
pub mod transfer;
pub mod verify;
pub mod words;

pub use layerscope_lenses as lenses;
pub use layerscope_probes as probes;
