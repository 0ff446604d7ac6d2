//! A prompt as lenses read it, without the model: `trajectory.parquet`, and what others read.

mod kit;
mod read;
mod table;
#[allow(clippy::module_inception)] // the trace itself
mod trace;

pub use kit::{KitError, logitlenskit};
pub use read::read_traces;
pub use table::{TRAJECTORY, write_traces};
pub use trace::{LensTrace, PromptToken, Trace, TraceCell};
