//! Stdin, which a text may come from and a worker's jobs may come from, but not both.

use std::{
    io::Stdin,
    sync::atomic::{AtomicBool, Ordering},
};

use super::JobError;

/// Set by a worker, whose jobs come from there.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// From now on, no job of this process reads stdin.
pub(super) fn take() {
    TAKEN.store(true, Ordering::Relaxed);
}

/// Stdin, for a job that was told to read it.
pub(crate) fn stdin() -> Result<Stdin, JobError> {
    if TAKEN.load(Ordering::Relaxed) {
        return Err(JobError::usage(
            "stdin (`-`): the jobs come from there; give the text itself, or a file",
        ));
    }
    Ok(std::io::stdin())
}

/// All of stdin as text.
pub(crate) fn read_stdin() -> Result<String, JobError> {
    std::io::read_to_string(stdin()?).map_err(|e| JobError::usage(e).at("stdin"))
}
