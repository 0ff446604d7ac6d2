//! What a job of a worker says, as events.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Listener, order::Pending};
use crate::job::{Progress, Stage, Watch, one_line};

/// Between two events of one stage's progress.
const PACE: Duration = Duration::from_millis(100);

/// The watch of one job.
pub(super) struct Voice {
    speaker: Arc<Speaker>,
    pending: Arc<Pending>,
    stages: AtomicU64,
}

/// Tells the listener, until it turns out that nobody hears.
struct Speaker {
    id: Value,
    listener: Arc<dyn Listener>,
    unheard: AtomicBool,
}

impl Speaker {
    fn say(&self, event: &str, mut fields: Value) {
        let mut whole = json!({ "id": self.id, "event": event });
        if let (Some(whole), Some(fields)) = (whole.as_object_mut(), fields.as_object_mut()) {
            whole.append(fields);
        }
        if !self.unheard.load(Ordering::Relaxed) && !self.listener.hear(whole) {
            self.unheard.store(true, Ordering::Relaxed);
        }
    }
}

impl Voice {
    pub(super) fn new(id: Value, listener: Arc<dyn Listener>, pending: Arc<Pending>) -> Self {
        let speaker = Arc::new(Speaker { id, listener, unheard: AtomicBool::new(false) });
        Self { speaker, pending, stages: AtomicU64::new(0) }
    }
}

impl Watch for Voice {
    fn note(&self, line: &str) {
        self.speaker.say("note", json!({ "line": one_line(line) }));
    }

    fn warn(&self, line: &str) {
        self.speaker.say("warning", json!({ "line": one_line(line) }));
    }

    fn event(&self, name: &'static str, fields: Value) {
        self.speaker.say(name, fields);
    }

    fn stage(&self, stage: Stage) -> Box<dyn Progress> {
        let number = self.stages.fetch_add(1, Ordering::Relaxed);
        let Stage { what, unit, total } = stage;
        self.speaker.say("stage", json!({ "stage": number, "what": what, "unit": unit, "total": total }));
        let so_far = Mutex::new(SoFar { done: 0, word: None, said: Instant::now() });
        Box::new(Spoken { speaker: Arc::clone(&self.speaker), number, so_far })
    }

    fn stopped(&self) -> bool {
        let Speaker { id, listener, unheard } = &*self.speaker;
        unheard.load(Ordering::Relaxed) || listener.stopped() || self.pending.is_cancelled(id)
    }
}

/// A stage whose progress is told.
struct Spoken {
    speaker: Arc<Speaker>,
    number: u64,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    done: u64,
    word: Option<String>,
    said: Instant,
}

impl Spoken {
    fn change(&self, change: impl FnOnce(&mut SoFar)) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut so_far);
        if so_far.said.elapsed() >= PACE {
            so_far.said = Instant::now();
            let (done, word) = (so_far.done, &so_far.word);
            self.speaker.say("progress", json!({ "stage": self.number, "done": done, "word": word }));
        }
    }
}

impl Progress for Spoken {
    fn inc(&self, by: u64) {
        self.change(|so_far| so_far.done += by);
    }

    fn set(&self, done: u64) {
        self.change(|so_far| so_far.done = done);
    }

    fn say(&self, word: String) {
        self.change(|so_far| so_far.word = Some(word));
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let done = self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner).done;
        self.speaker.say("stage_end", json!({ "stage": self.number, "done": done }));
    }
}
