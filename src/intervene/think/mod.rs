//! Latent feedback: a hidden state becomes the next input embedding, so that a model goes on without saying a token.
//!
//! ```text
//! prompt x_1 … x_P -> state h at the last position, layer L
//! thought t_i = γ^i · rescale(norm(h))         takes the place of the token embedding at position P + i
//! … K times, with keys and values kept; then the answer, greedily, from tokens again
//! ```
//!
//! Chain of continuous thought (Coconut, Hao et al. 2024, arXiv 2412.06769) feeds the last layer's state after the
//! final norm, MCOUT (arXiv 2508.12587) `γ^i h`. Here nothing is trained: [`rollout`] runs any model that way, [`read`]
//! says what each thought looks like to lenses and beside the embeddings, [`Effects`] what the answer loses when
//! thoughts are replaced, and [`Space`] how far the two spaces are one. A thought enters at `hook_embed`: before
//! position embeddings and after Gemma's scaling, as `inputs_embeds` does in transformers 5.

mod effects;
mod embeddings;
mod error;
mod feed;
mod read;
mod replace;
mod rollout;
mod space;
#[cfg(test)]
mod tests;

pub use effects::{Effect, Effects, Thinker};
pub use embeddings::Embeddings;
pub use error::ThinkError;
pub use feed::{Fed, ends};
pub use read::{LensRead, Read, Thought, read, thought_rows};
pub use replace::{Case, Replacement, Replacements};
pub use rollout::{Feedback, Rescale, Rollout, answers, fits, rollout, rollout_from};
pub use space::{Share, Space};
