//! Jobs that change the model and look what follows.

mod future;
mod generate;
mod patch;
mod schedule;
mod steer;
mod texts;
mod think;
mod trace;

pub use future::{At, Future, FutureFound};
pub use generate::{Continuation, Generate, Generation, Listener, NewToken};
pub use patch::{Answer, Line as PatchLine, Patch, Patched};
pub use schedule::{Schedule, Scheduled};
pub(super) use steer::directions;
pub use steer::{FoundSettings, Steer, Steered};
pub use think::{
    EmbeddingLengths, Rescaling, SpaceMeasured, Think, ThinkSpace, Thinking, ThoughtPrompt, Thoughts,
};
pub use trace::{Case, Measure, Pair, Prompts, ROUNDING, Trace, Traced, Way};

use super::{JobError, Watch};

/// Ends a job that was stopped and that keeps nothing to go on from.
fn check_stopped(watch: &dyn Watch) -> Result<(), JobError> {
    if watch.stopped() {
        return Err(JobError::interrupted("interrupted; repeat the command to start over"));
    }
    Ok(())
}
