//! Patching: activations of one run in the place of another's.
//!
//! Two questions, one move:
//!
//! - [`inspect`] (Patchscopes, Ghandeharioun et al. 2024, arXiv 2401.06102): what does a prompt that asks about its own
//!   token say when a state of another text stands there? The primitive is
//!   [`transplant_at`](crate::intervene::future::transplant_at): source prompt, position and layer; a mapping; target
//!   prompt, positions and layer. [`TargetPrompt`] has the presets.
//! - [`Experiment`] (activation patching, Vig et al. 2020; causal tracing, Meng et al. 2022, arXiv 2202.05262): which
//!   activation carries the answer? Every layer, position and hook of a clean run into a corrupted one (or the other
//!   way round), and how much of the answer comes back.

mod error;
mod experiment;
mod restore;
mod roles;
mod scope;
mod words;

pub use error::PatchError;
pub use experiment::{Direction, Experiment, Levels, MEASURES, Map, noise};
pub use roles::Role;
pub use scope::{Inspected, Preset, TargetPrompt, Word, inspect};
pub use words::places;
