//! The one way in which work reports and is stopped: jobs are given a [`Watch`], their parts a stage of it,
//! [`Underway`].

use serde_json::Value;

/// Who looks on while a job runs: a command line with a progress bar, a notebook, a server. `()` looks away.
///
/// Methods take `&self`, since passes run on several threads; whoever keeps a state of its own keeps it behind a lock.
pub trait Watch: Sync {
    /// A line that a person may want to read: what was decided, and why.
    fn note(&self, line: &str) {
        let _ = line;
    }

    /// A line that a person must read, also one who wants to hear nothing else.
    fn warn(&self, line: &str) {
        let _ = line;
    }

    /// Something that a program may want to know while the job runs: a name such as `validated`, and an object of
    /// numbers.
    fn event(&self, name: &'static str, fields: Value) {
        let _ = (name, fields);
    }

    /// Part of the work begins. It ends when the returned value is dropped.
    fn stage(&self, stage: Stage) -> Box<dyn Progress> {
        let _ = stage;
        Box::new(())
    }

    /// Whether the job shall stop at the next place from which it can go on later.
    fn stopped(&self) -> bool {
        false
    }
}

impl Watch for () {}

/// Part of a job's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What is being done, as a participle: `loading`, `evaluating`.
    pub what: &'static str,
    /// What is counted: `tokens`, `blocks`.
    pub unit: &'static str,
    /// How many there are, where that is known.
    pub total: Option<u64>,
}

/// How far a stage has come.
pub trait Progress: Send + Sync {
    /// So many more are done.
    fn inc(&self, by: u64) {
        let _ = by;
    }

    /// So many are done in all.
    fn set(&self, done: u64) {
        let _ = done;
    }

    /// A word on how it goes, such as the present loss.
    fn say(&self, word: String) {
        drop(word);
    }
}

impl Progress for () {}

/// Somebody asked to stop; whoever can go on later says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Stopped;

/// A stage that has begun: hears how far it has come, and says whether to stop. It ends when it is dropped.
pub struct Underway<'w> {
    watch: &'w dyn Watch,
    progress: Box<dyn Progress>,
}

impl dyn Watch + '_ {
    /// Begins a [`Stage`].
    pub fn begin(&self, what: &'static str, unit: &'static str, total: Option<u64>) -> Underway<'_> {
        Underway { watch: self, progress: self.stage(Stage { what, unit, total }) }
    }
}

impl Underway<'static> {
    /// Nobody looks on, and nobody stops it.
    pub fn unwatched() -> Self {
        Self { watch: &(), progress: Box::new(()) }
    }
}

impl Underway<'_> {
    /// Whether to go on.
    ///
    /// # Errors
    /// [`Stopped`] when somebody asked to stop.
    pub fn go_on(&self) -> Result<(), Stopped> {
        if self.watch.stopped() { Err(Stopped) } else { Ok(()) }
    }

    /// The same stage for a part of it whose work is counted here: it only asks whether to stop.
    pub fn uncounted(&self) -> Underway<'_> {
        Underway { watch: self.watch, progress: Box::new(()) }
    }

    /// So many more are done.
    pub fn inc(&self, by: u64) {
        self.progress.inc(by);
    }

    /// So many more are done, and whether to go on.
    ///
    /// # Errors
    /// As [`Self::go_on`].
    pub fn done(&self, by: u64) -> Result<(), Stopped> {
        self.inc(by);
        self.go_on()
    }

    /// So many are done in all.
    pub fn set(&self, done: u64) {
        self.progress.set(done);
    }

    /// A word on how it goes, such as the present loss.
    pub fn say(&self, word: String) {
        self.progress.say(word);
    }
}

/// Watches for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::{Progress, Stage, Underway, Watch};

    /// Adds up what is counted, and asks to stop when there is as much as it waits for.
    #[derive(Default)]
    pub(crate) struct Counter {
        counted: Arc<AtomicU64>,
        stop_at: Option<u64>,
    }

    impl Counter {
        pub(crate) fn until(stop_at: u64) -> Self {
            Self { stop_at: Some(stop_at), ..Self::default() }
        }

        pub(crate) fn counted(&self) -> u64 {
            self.counted.load(Ordering::Relaxed)
        }

        pub(crate) fn begin(&self) -> Underway<'_> {
            (self as &dyn Watch).begin("working", "things", None)
        }
    }

    impl Watch for Counter {
        fn stage(&self, _: Stage) -> Box<dyn Progress> {
            Box::new(Adder(Arc::clone(&self.counted)))
        }

        fn stopped(&self) -> bool {
            self.stop_at.is_some_and(|most| self.counted() >= most)
        }
    }

    struct Adder(Arc<AtomicU64>);

    impl Progress for Adder {
        fn inc(&self, by: u64) {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
    }
}
