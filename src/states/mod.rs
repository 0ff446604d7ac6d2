//! What a hooked run saw: rows of states in memory, and activations on disk.
//!
//! [`States`] are the residuals of windows of text as rows, what lenses are fitted to and evaluated on; [`export`]
//! streams a corpus through the model into a [`store`].

#[cfg(test)]
mod compute_tests;
pub mod convert;
mod encoded;
pub mod export;
pub mod foreign;
mod masking;
mod rows;
pub mod store;
mod tensors;

pub use masking::{Masker, Masking, SHARE};
pub(crate) use rows::not_finite;
pub use rows::{Ahead, States, check_prompt, check_stream};
pub use tensors::{check_tensors, write_tensors};
