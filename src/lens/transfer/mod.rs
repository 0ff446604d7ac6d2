//! Transfer: does the translator of one layer read the states of another?
//!
//! Every translator `i` reads every state `j` on the same tokens, so that all differences are paired by document:
//!
//! ```text
//! penalty_state = CE[i, j] - CE[j, j]     what it costs not to use the state's own lens
//! penalty_lens  = CE[i, j] - CE[i, i]     what it costs the lens to read another layer's state
//! kl_native     = KL(lens j on state j ‖ lens i on state j)
//! ```
//!
//! Beside the matrix stand corrections of the state before the lens ([`Correction`]), the shared lens with its
//! controls, and the geometry of the layers ([`Layers`], a block of pairs at a time). Moments for corrections, geometry
//! and the constant predictor come from one half of the documents, everything else from the other; where a number rests
//! on both, so does its interval.

mod correction;
mod geometry;
mod matrix;
mod mean;
mod places;
mod rows;
mod verdict;

pub use correction::{Correction, Corrections};
pub use geometry::{BLOCK_BYTES, Layers, blocks, blocks_apart};
pub use matrix::{Subjects, Transfer};
pub use mean::{Constants, Mean};
pub(crate) use rows::sharing_score;
pub use verdict::{Sharing, verdict};
