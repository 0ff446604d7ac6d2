//! Ctrl-C: the first one stops at the next safe place, the second one at once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use super::exit::Failure;

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Set by the first Ctrl-C or SIGTERM; a second one ends the process at once, which a resumed run survives too.
pub(crate) fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    if let Some(stop) = STOP.get() {
        return Ok(Arc::clone(stop)); // the demo runs several commands in one process
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    #[allow(clippy::exit)] // a signal handler has nobody to return to
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(4);
        }
    })?;
    Ok(Arc::clone(STOP.get_or_init(|| stop)))
}

/// Whether Ctrl-C was pressed in a command that looks for it.
pub(crate) fn interrupted() -> bool {
    STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}
