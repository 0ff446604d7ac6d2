//! Fitting a Jacobian lens (Gurnee et al. 2026): the mean over prompts of what the last layer changes by when a state
//! does.
//!
//! ```text
//! J_p[i, :] = 1/|V| Σ_{t ∈ V} Σ_{t' ∈ V} ∂z[t', i] / ∂h[t, :]      z: the target layer, h: the layer read
//! J         = the plain mean of J_p over prompts
//! ```
//!
//! `V` are a prompt's places but for the first (attention sinks) and the last. Causality makes the terms with `t' < t`
//! zero. The estimator is the published one, of Anthropic's reference and TransformerLens; ours differentiates by one
//! change per layer that is added at all places of `V` at once, which gives the sum over `t` without keeping its terms.

mod probe;
mod prompts;
mod rows;

pub use probe::{Estimator, JacobianError};
pub use prompts::{Prompts, prompts};
pub use rows::Rows;

#[cfg(test)]
mod tests;
