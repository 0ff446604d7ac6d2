//! What attention heads look at, and what the model loses without them.
//!
//! ```text
//! windows -> Relations (which keys a row may look at for what)
//!         -> forward(HeadTap): every pattern becomes sums at once, no pattern is kept
//!         -> HeadScores: (sum, count) per head and document -> metric rows with intervals
//! windows -> Ablations: the same text without a head -> losses beside the model's, paired by document
//! ```
//!
//! [`Statistic`] says what is measured and how it is defined, [`repeated`] makes texts of random tokens said twice,
//! [`prompt_patterns`] keeps every link of one prompt.

mod ablate;
mod error;
mod heads;
mod means;
mod prompt;
mod relations;
mod repeated;
mod save;
mod set;
mod statistic;
mod sums;
mod tap;

pub use ablate::{Ablation, Ablations, next_tokens};
pub use error::AttentionError;
pub use heads::HeadScores;
pub use means::HeadMeans;
pub use prompt::prompt_patterns;
pub use relations::Relations;
pub use repeated::{Repeated, copied_tokens, repeated};
pub use save::{Square, squares, write_squares};
pub use set::{HeadSet, HeadSetError};
pub use statistic::Statistic;
pub use sums::{COLUMNS, sums};
