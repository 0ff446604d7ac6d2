//! A worker: jobs come as lines of JSON and are answered in lines of JSON, and models stay in memory between them.
//!
//! ```text
//! {"id": 1, "command": "view", "job": {"model": "gpt2", "text": ["The old man"]}}     a job; its settings as in a manifest's `request`
//! {"id": 2, "command": "view", "job": {…}, "folder": "/home/me"}                      where relative paths of this and later jobs begin
//! {"cancel": 1}                                                                       stops it as Ctrl-C would
//!
//! {"id": null, "event": "ready", "version": "0.1.0", "commands": ["view", …]}
//! {"id": 1, "event": "note", "line": "…"}                                             also `warning`
//! {"id": 1, "event": "stage", "stage": 0, "what": "loading", "unit": "blocks", "total": 12}
//! {"id": 1, "event": "progress", "stage": 0, "done": 5, "word": null}                 at most ten a second
//! {"id": 1, "event": "stage_end", "stage": 0, "done": 12}
//! {"id": 1, "event": "done", "command": "view", "out": null, "result": {…}, "seconds": 0.2}
//! {"id": 1, "event": "error", "code": 2, "error": "one line"}                         in place of `done`; codes as the program's
//! ```
//!
//! Jobs run one after another, in the order of their lines. Every one is answered by `done` or `error`, the last event
//! of its id; a line that is no job is answered by an `error` and ends nothing. Further events are those of the job,
//! such as `validated`.

mod order;
mod voice;

use std::{
    any::Any,
    io::BufRead,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::{
    order::{Line, Order, Pending},
    voice::Voice,
};
use super::{AnyJob, JobError, kept, one_line, shown, stdin};

/// The code of a panic, which `sysexits.h` calls an internal software error.
const FAULT: u8 = 70;
/// How often a worker without jobs looks whether it shall stop.
const IDLE: Duration = Duration::from_millis(100);

/// Who gave the jobs.
pub trait Listener: Send + Sync {
    /// An event; false where nobody hears it, upon which the job stops at the next place from which it can go on.
    fn hear(&self, event: Value) -> bool;

    /// Whether the worker shall stop, whatever its jobs.
    fn stopped(&self) -> bool {
        false
    }

    /// What is known of a panic.
    fn fault(&self, payload: &(dyn Any + Send)) -> String {
        let text = payload.downcast_ref::<&str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message")
            .to_owned()
    }
}

/// Runs the jobs of `lines` until they end, with as many `models` kept in memory.
///
/// # Errors
/// [`JobError::Interrupted`] where the worker was stopped, or nobody heard it any more.
pub fn work(
    lines: impl BufRead + Send + 'static,
    models: NonZeroUsize,
    listener: &Arc<dyn Listener>,
) -> Result<(), JobError> {
    stdin::take();
    kept::keep(models.get());
    let (pending, (send, receive)) = (Arc::new(Pending::default()), channel());
    let known = Arc::clone(&pending);
    // Not a scoped thread: one that waits for a line must not keep the process.
    std::thread::spawn(move || read(lines, &known, &send));
    let ready = json!({
        "id": null, "event": "ready", "version": env!("CARGO_PKG_VERSION"), "commands": AnyJob::COMMANDS,
    });
    let ended = if listener.hear(ready) { serve(&receive, &pending, listener) } else { Err(unheard()) };
    kept::keep(0);
    ended
}

/// Lines, until they end. Cancelling is done here, while a job runs.
fn read(mut lines: impl BufRead, pending: &Pending, send: &Sender<Line>) {
    loop {
        let mut bytes = Vec::new();
        let line = match lines.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) if bytes.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(_) => Line::read(&bytes, pending),
            Err(error) => {
                Line::Broken { id: Value::Null, problem: format!("the jobs cannot be read: {error}") }
            }
        };
        let last = matches!(&line, Line::Broken { problem, .. } if problem.starts_with("the jobs cannot"));
        if send.send(line).is_err() || last {
            return;
        }
    }
}

fn serve(
    lines: &Receiver<Line>,
    pending: &Arc<Pending>,
    listener: &Arc<dyn Listener>,
) -> Result<(), JobError> {
    loop {
        if listener.stopped() {
            return Err(JobError::interrupted("interrupted; jobs that were waiting have not begun"));
        }
        let line = match lines.recv_timeout(IDLE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let heard = match line {
            Line::Cancelled => true,
            Line::Broken { id, problem } => listener.hear(error(&id, 2, &problem)),
            Line::Job(order) => {
                let last = answer(&order, pending, listener);
                pending.end(&order.id);
                listener.hear(last)
            }
        };
        if !heard {
            return Err(unheard());
        }
    }
}

/// Runs a job; its last event.
fn answer(order: &Order, pending: &Arc<Pending>, listener: &Arc<dyn Listener>) -> Value {
    let (id, begun) = (&order.id, Instant::now());
    let voice = Voice::new(id.clone(), Arc::clone(listener), Arc::clone(pending));
    let run = || -> Result<_, JobError> {
        if pending.is_cancelled(id) {
            return Err(JobError::interrupted("cancelled before it began"));
        }
        if let Some(folder) = &order.folder {
            let there = std::env::set_current_dir(folder);
            there.map_err(|e| JobError::usage(format!("folder: {}: {e}", folder.display())))?;
        }
        let job = AnyJob::checked(&order.command, order.job.clone())?;
        Ok((job.out().filter(|out| !out.as_os_str().is_empty()).map(shown), job.answer(&voice)?))
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok((out, result))) => json!({
            "id": id, "event": "done", "command": order.command, "out": out, "result": result,
            "seconds": begun.elapsed().as_secs_f64(),
        }),
        Ok(Err(problem)) => error(id, problem.ending().code(), &problem.to_string()),
        Err(payload) => {
            let what = listener.fault(&*payload);
            error(id, FAULT, &format!("layerscope stopped at a fault of its own, please report it: {what}"))
        }
    }
}

fn error(id: &Value, code: u8, line: &str) -> Value {
    json!({ "id": id, "event": "error", "code": code, "error": one_line(line) })
}

fn unheard() -> JobError {
    JobError::interrupted("nobody takes the answers any more")
}
