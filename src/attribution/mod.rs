//! Direct logit attribution: a logit as the sum of what every part of the network wrote to the residual stream.
//!
//! The stream that leaves the last block is a sum, `h_L = h_0 + Σ attn_i + Σ mlp_i`, and the way out of it is linear
//! but for the final norm's divisor. With that divisor σ held at what it is in this pass,
//!
//! ```text
//! logit_v = Σ_c ⟨C(γ ⊙ W_U[v]), c⟩ / σ + ⟨W_U[v], β⟩ + b_v
//! ```
//!
//! over the components c: embeddings, heads (`z W_O`), biases, MLPs or their neurons. C takes the mean off where the
//! norm does. It is symmetric, so that the direction is centred once and no component is. A norm behind a branch
//! (Gemma 2) is frozen in the same way. Nothing is folded: the norm's offset β and the head's bias b are rows, and the
//! rows sum to the logit, which [`attribute`] checks of every row.
//!
//! A component is never made as a vector. The direction is carried back through what follows it, and its inner product
//! is taken with the heads' `z`, or with the neurons, in one product per branch.

mod attribute;
mod component;
mod corpus;
mod error;
mod tap;
mod targets;
#[cfg(test)]
mod tests;
mod written;

pub use attribute::{Attribution, attribute, attribute_under, check_family};
pub use component::{Component, components};
pub use corpus::{Mean, Means, Of};
pub use error::AttributionError;
pub use targets::{Targets, likeliest};
pub use written::{Words, words};
