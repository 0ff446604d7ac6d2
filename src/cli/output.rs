//! Where words go: data to stdout, notes and progress to stderr, or NDJSON.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use layerscope::{
    job::{Progress, Stage, Watch},
    results::run::METRICS,
    results::words::human,
};
use serde_json::{Value, json};

use super::{
    args::OutputArgs,
    exit::Failure,
    interrupt::{interrupted, on_interrupt},
};

/// Columns below which a bar would leave no room for its numbers.
const NARROW: u16 = 72;

/// Every bar of the process: a line is written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A line on stderr. Nobody can be told of a stderr that is closed or full, and no run may be lost over it.
pub(crate) fn say(line: &str) {
    let _unheard = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Data on stdout; what is wrong with it names stdout.
pub(crate) fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| named(&error))
}

/// An error of stdout that says so; its kind stays, since a reader who has seen enough is no error.
fn named(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("stdout: {error}"))
}

/// A path in JSON and messages, in which nothing but UTF-8 can stand.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// A command's way of talking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        Self { json: args.json, quiet: args.quiet }
    }

    /// The same of a command that stops at the next safe place when Ctrl-C is pressed.
    pub(crate) fn stoppable(args: &OutputArgs) -> Result<Self, Failure> {
        on_interrupt()?;
        Ok(Self::new(args))
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A line for people, on stderr.
    pub(crate) fn note(self, line: impl AsRef<str>) {
        if !self.quiet {
            BARS.suspend(|| say(line.as_ref()));
        }
    }

    /// Ends a command that wrote a run: where its numbers are, and the command that shows them.
    pub(crate) fn wrote(self, run: &Path, what: &str) {
        self.note(format!("{}: {what}", run.join(METRICS).display()));
        self.note(format!("next, as figures and a page: layerscope report {} --out DIR", run.display()));
    }

    /// A line that stays even under `--quiet`.
    #[allow(clippy::unused_self)] // reads like `note` where it is called
    pub(crate) fn warn(self, line: impl AsRef<str>) {
        BARS.suspend(|| say(&format!("warning: {}", line.as_ref())));
    }

    /// Human-readable data, unless NDJSON was asked for.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { write_out(&format!("{text}\n")) }
    }

    /// One NDJSON event.
    pub(crate) fn event(self, name: &str, mut fields: Value) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut event = json!({ "event": name });
        if let (Some(event), Some(fields)) = (event.as_object_mut(), fields.as_object_mut()) {
            event.append(fields);
        }
        write_out(&format!("{event}\n"))
    }

    /// The last NDJSON object.
    pub(crate) fn result(self, fields: Value) -> io::Result<()> {
        self.event("result", fields)
    }

    /// A bar over `total` of something (none: a spinner), on stderr when that is a terminal.
    pub(crate) fn bar(self, what: &'static str, unit: &str, total: Option<u64>) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let wide = console::Term::stderr().size_checked().is_none_or(|(_, columns)| columns >= NARROW);
        let (bar, template) = match (total, wide) {
            (Some(total), true) => (
                ProgressBar::new(total),
                format!("{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{rate}}{{left}}"),
            ),
            (Some(total), false) => {
                (ProgressBar::new(total), format!("{{msg}} {{human_pos}}/{{human_len}} {unit}"))
            }
            (None, _) => {
                (ProgressBar::new_spinner(), format!("{{spinner}} {{msg}} {{human_pos}} {unit}  {{rate}}"))
            }
        };
        // The template is a constant; were it wrong, a plain bar would be drawn.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.with_key("rate", rate).with_key("left", left);
        let bar = BARS.add(bar.with_style(style).with_message(what));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Watch for Output {
    fn note(&self, line: &str) {
        Self::note(*self, line);
    }

    fn warn(&self, line: &str) {
        Self::warn(*self, line);
    }

    fn event(&self, name: &'static str, fields: Value) {
        // A closed stdout shows at the result, which every command ends with.
        BARS.suspend(|| drop(Self::event(*self, name, fields)));
    }

    fn stage(&self, stage: Stage) -> Box<dyn Progress> {
        Box::new(Bar(self.bar(stage.what, stage.unit, stage.total)))
    }

    fn stopped(&self) -> bool {
        interrupted()
    }
}

/// A bar that goes when its stage ends.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn inc(&self, by: u64) {
        self.0.inc(by);
    }

    fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    fn say(&self, word: String) {
        self.0.set_message(word);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// `8.1 k/s`; nothing before there is a speed.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let speed = state.per_sec();
    if state.pos() == 0 || !speed.is_finite() {
        return;
    }
    // Layers of a large model take seconds each.
    let text = if speed < 9.95 { format!("{speed:.1} ") } else { human(speed as u64, "") + " " };
    let _infallible = write!(out, "{}/s", text.trim_end());
}

/// `  3m left`; nothing while that is not known, or when nothing is left.
fn left(state: &ProgressState, out: &mut dyn fmt::Write) {
    let known = state.pos() > 0 && state.len().is_some_and(|len| state.pos() < len);
    if known && state.eta() >= Duration::from_secs(1) {
        let _infallible = write!(out, "  {:#} left", HumanDuration(state.eta()));
    }
}
