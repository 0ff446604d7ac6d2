//! A disk that fails after a number of operations, as it does on a kill or when it is full: what tests of writers plan.
//!
//! It is part of the library, since writers in other crates are tested with it; where nothing is planned, a step is one
//! read of an atomic.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Plan {
    root: PathBuf,
    left: u64,
    kind: io::ErrorKind,
    hit: bool,
}

static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());
/// How many there are.
static PLANNED: AtomicUsize = AtomicUsize::new(0);

fn plans() -> MutexGuard<'static, Vec<Plan>> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From the operation number `after` on, every operation under `root` fails with `kind`.
pub fn plan(root: &Path, after: u64, kind: io::ErrorKind) {
    clear(root);
    let mut plans = plans();
    plans.push(Plan { root: root.to_path_buf(), left: after, kind, hit: false });
    PLANNED.store(plans.len(), Ordering::SeqCst);
}

/// Ends the plan; true if it made something fail.
pub fn clear(root: &Path) -> bool {
    let mut plans = plans();
    let hit = plans.iter().any(|plan| plan.root == root && plan.hit);
    plans.retain(|plan| plan.root != root);
    PLANNED.store(plans.len(), Ordering::SeqCst);
    hit
}

/// Whether any failure is planned in this process.
pub(super) fn planned() -> bool {
    PLANNED.load(Ordering::SeqCst) > 0
}

/// An operation on `path`.
///
/// # Errors
/// The planned one.
pub(super) fn step(path: &Path) -> io::Result<()> {
    if !planned() {
        return Ok(());
    }
    let mut plans = plans();
    let Some(plan) = plans.iter_mut().find(|plan| path.starts_with(&plan.root)) else { return Ok(()) };
    plan.hit |= plan.left == 0;
    plan.left = plan.left.saturating_sub(1);
    if plan.hit { Err(plan.kind.into()) } else { Ok(()) }
}
