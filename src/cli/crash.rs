//! The last net: a panic becomes one line that asks for a report, and an exit code of its own.
//!
//! A panic unwinds as any error does, so a run that can be resumed is left as a kill would leave it. Code that expects
//! a panic of somebody else's library catches it before, and nothing is said of it then.

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use layerscope::results::shell::quoted;

use super::{exit::one_line, output::say};

/// What `sysexits.h` calls an internal software error.
const CODE: u8 = 70;
/// Letters of a panic's message, and of the command, that the line shows.
const MESSAGE: usize = 300;
const COMMAND: usize = 600;

/// Where the latest two panics were and what they said, the earlier one first.
static LATEST: Mutex<[String; 2]> = Mutex::new([String::new(), String::new()]);

/// Runs a command; a panic in it, or in a thread that works for it, ends it with one line and exit code 70.
pub(crate) fn guard(run: impl FnOnce() -> ExitCode) -> ExitCode {
    listen();
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        report(&latest()[1]);
        ExitCode::from(CODE)
    })
}

/// Notes panics in place of printing them; with `RUST_BACKTRACE` set they are printed with their trace all the same.
fn listen() {
    let trace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if trace {
            print(info);
        }
        if cannot_unwind(info) {
            let [first, second] = latest();
            report(&format!("{first}; then {second}"));
            #[allow(clippy::exit)] // the runtime would abort, and the first panic be lost
            std::process::exit(i32::from(CODE));
        }
        // The thread that waits for others has nothing to add to what they said.
        if message(info) != "a scoped thread panicked" {
            let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
            latest.swap(0, 1);
            latest[1] = describe(info);
        }
    }));
}

/// A second panic, in a destructor or at the border to C++, after which the runtime aborts.
fn cannot_unwind(info: &PanicHookInfo<'_>) -> bool {
    let again = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];
    again.iter().any(|start| message(info).starts_with(start))
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// `src/x.rs:10:5: message`. Of a message of several lines, such as torch's, the first one says what happened.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let first = message(info).lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    format!("{place}: {}", cut(first.trim(), MESSAGE))
}

/// Where the latest panic was and what it said.
pub(crate) fn last() -> String {
    let [_, last] = latest();
    last
}

fn latest() -> [String; 2] {
    LATEST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn report(what: &str) {
    let words: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    let command = cut(&words.join(" "), COMMAND);
    let version = env!("CARGO_PKG_VERSION");
    say(&format!(
        "error: layerscope {version} stopped at a fault of its own, please report it: {}; command: {} (RUST_BACKTRACE=1 shows the trace)",
        one_line(what),
        one_line(&command)
    ));
}

fn cut(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
