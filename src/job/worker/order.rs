//! What a line asks for.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;
use serde_json::Value;

/// A line that was read.
pub(super) enum Line {
    /// A job.
    Job(Order),
    /// Another job is to stop; that is done.
    Cancelled,
    /// Neither.
    Broken {
        /// Of the job that it may have been.
        id: Value,
        /// What is wrong with it.
        problem: String,
    },
}

/// A job and what its answers are called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// A number or a text, of no other job that waits or runs.
    pub(super) id: Value,
    /// `lens eval`.
    pub(super) command: String,
    /// Its settings.
    pub(super) job: Value,
    /// Where its relative paths begin; none: where those of the job before it did.
    #[serde(default)]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    cancel: Value,
}

impl Line {
    /// Reads a line, and notes what becomes pending or cancelled by it.
    pub(super) fn read(bytes: &[u8], pending: &Pending) -> Self {
        let value: Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(error) => {
                return Self::Broken { id: Value::Null, problem: format!("the line is no JSON: {error}") };
            }
        };
        let id = value.get("id").cloned().unwrap_or_default();
        let broken = |problem: String| Self::Broken { id: id.clone(), problem };
        if value.get("cancel").is_some() {
            return match serde_json::from_value(value) {
                Ok(Cancel { cancel }) => {
                    pending.cancel(&cancel);
                    Self::Cancelled
                }
                Err(error) => broken(format!("the line cancels no job: {error}")),
            };
        }
        match serde_json::from_value::<Order>(value) {
            Err(error) => broken(format!("the line is no job: {error}")),
            Ok(order) if !order.id.is_number() && !order.id.is_string() => {
                broken("the line is no job: `id` is a number or a text".to_owned())
            }
            Ok(order) if !pending.begin(&order.id) => broken(format!("a job {} is not over yet", order.id)),
            Ok(order) => Self::Job(order),
        }
    }
}

/// The jobs that wait or run, and which of them are to stop.
#[derive(Default)]
pub(super) struct Pending(Mutex<BTreeMap<String, bool>>);

impl Pending {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, bool>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A job waits; false where one of its name does already.
    fn begin(&self, id: &Value) -> bool {
        self.with(|jobs| {
            let new = !jobs.contains_key(&id.to_string());
            jobs.entry(id.to_string()).or_insert(false);
            new
        })
    }

    /// A job is to stop. One that is over needs nothing.
    fn cancel(&self, id: &Value) {
        self.with(|jobs| jobs.get_mut(&id.to_string()).map(|cancelled| *cancelled = true));
    }

    pub(super) fn is_cancelled(&self, id: &Value) -> bool {
        self.with(|jobs| jobs.get(&id.to_string()).copied().unwrap_or(false))
    }

    /// A job is over.
    pub(super) fn end(&self, id: &Value) {
        self.with(|jobs| jobs.remove(&id.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(line: &str, pending: &Pending) -> (Value, String) {
        match Line::read(line.as_bytes(), pending) {
            Line::Broken { id, problem } => (id, problem),
            _ => panic!("{line} was taken"),
        }
    }

    #[test]
    fn a_line_that_is_no_job_says_whose_it_was() {
        let pending = Pending::default();
        assert_eq!(problem("{", &pending).0, Value::Null);
        let (id, line) = problem(r#"{"id": 7, "command": "view"}"#, &pending);
        assert_eq!((id, line.as_str()), (json!(7), "the line is no job: missing field `job`"));
        assert!(
            problem(r#"{"id": [], "command": "view", "job": {}}"#, &pending).1.contains("a number or a text")
        );
        assert!(
            problem(r#"{"id": 1, "command": "view", "job": {}, "out": 2}"#, &pending).1.contains("`out`")
        );
        assert!(problem(r#"{"cancel": 1, "id": 2}"#, &pending).1.contains("`id`"));
        assert!(matches!(Line::read(b"[1]", &pending), Line::Broken { .. }));
    }

    #[test]
    fn only_what_waits_or_runs_is_cancelled() {
        let pending = Pending::default();
        let job = br#"{"id": "a", "command": "view", "job": {}}"#;
        assert!(matches!(Line::read(br#"{"cancel": "a"}"#, &pending), Line::Cancelled));
        assert!(matches!(Line::read(job, &pending), Line::Job(_)));
        assert!(!pending.is_cancelled(&json!("a")), "it came after that");
        assert!(matches!(Line::read(job, &pending), Line::Broken { .. }), "its name is taken");
        assert!(matches!(Line::read(br#"{"cancel": "a"}"#, &pending), Line::Cancelled));
        assert!(pending.is_cancelled(&json!("a")));
        pending.end(&json!("a"));
        assert!(matches!(Line::read(job, &pending), Line::Job(_)));
        assert!(!pending.is_cancelled(&json!("a")));
    }
}
