//! The future lens's causal methods: put a state into another prompt and see what the network says of the tokens after
//! it (Pal et al. 2023, arXiv 2311.04897).
//!
//! ```text
//! source:  x_1 … x_T            h = the stream entering block l at T
//! prompt:  p_1 … p_M y_1 … y_N  the stream entering block l at M becomes h; read at the last position
//! ```
//!
//! Horizon `k = N + 1` predicts the token at `T + k`. The targets are the model's own greedy continuation `y_1 …` of
//! the source, and `y_1 … y_N` are fed after the prompt ([`Sources`]). A prompt is words or learned vectors
//! ([`Prompt`], [`train`]).
//!
//! A fed prompt says something of the future even when the state is no good: the fed tokens are in plain sight. So
//! every number has its controls (the paper has none): no transplant, the mean state, and a state of another document.
//! What counts is the difference from the last ([`Table`]).

mod contexts;
mod error;
mod free;
mod grid;
mod prompt;
mod recipe;
mod score;
mod sources;
mod spoken;
mod table;
mod train;

pub use contexts::{Rows, derangement, drawn};
pub use error::FutureError;
pub use free::{Step, free, free_at};
pub use grid::{GridCell, grid};
pub use prompt::{PAPER_PROMPTS, Prompt, fits, transplant, transplant_at};
pub use recipe::Recipe;
pub use score::METRICS;
pub use sources::Sources;
pub use spoken::Spoken;
pub use table::{Control, PromptName, Table};
pub use train::{PromptCell, Trained, kl, train};
