//! A door in front of code that panics, hangs or eats memory on input that its authors did not think of.
//!
//! [`quietly`] makes an error of a panic, without the words a panic prints. [`bounded`] also gives up on work that
//! takes too long or too much memory. Such work cannot be stopped: its thread is left behind and ends with the process,
//! which on the command line is at once, because the caller gets an error.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

pub(crate) use crate::results::guard::{one_line, quietly};

/// How often work is looked after. Ticks are counted, not the clock read, so that a suspended process loses nothing.
const TICK: Duration = Duration::from_millis(20);
/// Deeply nested patterns are parsed by recursion.
const STACK: usize = 16 << 20;

/// What work may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) seconds: u64,
    /// Growth of the process's resident memory, in MiB: what other threads take meanwhile counts too.
    pub(super) mebibytes: u64,
}

/// Why work gave no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    /// It panicked with these words.
    #[error("{0}")]
    Panic(String),
    /// It was not done in time.
    #[error("not done after {0} seconds")]
    Slow(u64),
    /// It took too much memory.
    #[error("needs more than {0} MiB of memory")]
    Large(u64),
}

/// Runs `work` on a thread of its own, within `bound`.
pub(super) fn bounded<T: Send + 'static>(
    bound: Bound,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let (sender, receiver) = sync_channel(1);
    // Nobody listens to work that was given up.
    let run = move || drop(sender.send(quietly(work)));
    let thread = std::thread::Builder::new().name("guarded".into()).stack_size(STACK).spawn(run);
    thread.map_err(|error| Stopped::Panic(format!("no thread to work on: {error}")))?;
    let (mut ticks, mut start) = (0, None);
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(result) => return result.map_err(Stopped::Panic),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Stopped::Panic("ended without a result".into()));
            }
            Err(RecvTimeoutError::Timeout) => ticks += 1,
        }
        let now = resident();
        let grown = now.saturating_sub(*start.get_or_insert(now));
        if grown > bound.mebibytes {
            return Err(Stopped::Large(bound.mebibytes));
        }
        if TICK * ticks > Duration::from_secs(bound.seconds) {
            return Err(Stopped::Slow(bound.seconds));
        }
    }
}

/// The process's resident memory in MiB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) >> 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { seconds: 1, mebibytes: 64 };

    #[test]
    fn results_panics_and_what_they_say() {
        assert_eq!(bounded(BOUND, || 3).unwrap(), 3);
        assert_eq!(quietly(|| 3).unwrap(), 3);
        assert_eq!(quietly(|| panic!("a\n  b {}", 1)).map(|(): ()| ()).unwrap_err(), "a b 1");
        let stopped = bounded(BOUND, || panic!("constant")).map(|(): ()| ()).unwrap_err();
        assert_eq!(stopped, Stopped::Panic("constant".into()));
        let out_of_bounds = |i: usize| quietly(|| vec![0; 3][i]).unwrap_err();
        assert_eq!(out_of_bounds(3), "index out of bounds: the len is 3 but the index is 3");
    }

    /// One test, because the one takes the memory that the other counts.
    #[test]
    fn work_that_never_ends_and_work_that_eats_memory_are_given_up() {
        let forever = || std::thread::sleep(Duration::from_secs(60));
        let stopped = bounded(Bound { mebibytes: 4096, ..BOUND }, forever).unwrap_err();
        assert_eq!(stopped.to_string(), "not done after 1 seconds");
        if resident() == 0 {
            // Elsewhere than on Linux memory is not counted.
            return;
        }
        // Slowly, and with an end: other tests have memory of their own to count.
        let eat = || {
            let mut eaten = Vec::new();
            for _ in 0..25 {
                eaten.push(vec![1_u8; 8 << 20]);
                std::thread::sleep(Duration::from_millis(20));
            }
            eaten.len()
        };
        assert_eq!(bounded(Bound { seconds: 30, ..BOUND }, eat).unwrap_err(), Stopped::Large(64));
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 302);
        assert_eq!(one_line(" a \n\t b "), "a b");
    }
}
