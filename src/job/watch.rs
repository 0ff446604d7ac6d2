//! The one way in which a job reports and is stopped.

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

    /// Something that a program may want to know while the job runs: a name such as `validated`, and an object of numbers.
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

impl dyn Watch + '_ {
    /// [`Watch::stage`] in a line.
    pub fn begin(&self, what: &'static str, unit: &'static str, total: Option<u64>) -> Box<dyn Progress> {
        self.stage(Stage { what, unit, total })
    }
}
