//! Changing the model and looking what follows: patches, layer schedules, steering, thinking in states, prompts that
//! are given a state.

pub(crate) mod adamw;
pub mod edits;
pub mod future;
pub mod generate;
pub mod patch;
pub mod schedule;
pub mod steer;
pub mod think;
