//! Where words go: data to stdout, notes and progress to stderr, or NDJSON.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use layerscope::results::run::{Claim, METRICS};
use serde_json::{Value, json};

use super::args::OutputArgs;

/// Columns below which a bar would leave no room for its numbers.
const NARROW: u16 = 72;

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

/// How the program was called, for the record.
pub(crate) fn argv() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A command's way of talking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    args: OutputArgs,
}

impl Output {
    pub(crate) fn new(args: OutputArgs) -> Self {
        Self { args }
    }

    pub(crate) fn is_json(self) -> bool {
        self.args.json
    }

    /// A line for people, on stderr.
    pub(crate) fn note(self, line: impl AsRef<str>) {
        if !self.args.quiet {
            say(line.as_ref());
        }
    }

    /// Ends a command that wrote a run: where its numbers are, and the command that shows them.
    pub(crate) fn wrote(self, run: &Path, what: &str) {
        self.note(format!("{}: {what}", run.join(METRICS).display()));
        self.note(format!("next, as figures and a page: layerscope report {} --out DIR", run.display()));
    }

    /// Says what is wrong with a complete run's files, which are made again now.
    pub(crate) fn claimed(self, claim: Claim) -> Claim {
        self.repairs(&claim);
        claim
    }

    /// The same of a claim that is part of something else.
    pub(crate) fn repairs(self, claim: &Claim) {
        for damage in claim.damaged() {
            self.note(format!("{}; made again", damage.finding()));
        }
    }

    /// A line that stays even under `--quiet`.
    #[allow(clippy::unused_self)] // reads like `note` where it is called
    pub(crate) fn warn(self, line: impl AsRef<str>) {
        say(&format!("warning: {}", line.as_ref()));
    }

    /// Human-readable data, unless NDJSON was asked for.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        if self.args.json { Ok(()) } else { write_out(&format!("{text}\n")) }
    }

    /// One NDJSON event.
    pub(crate) fn event(self, name: &str, mut fields: Value) -> io::Result<()> {
        if !self.args.json {
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
        if self.args.quiet {
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
        let bar = bar.with_style(style).with_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
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

/// A count with a unit people read: `1.3 GB`, `124.4 M`.
pub(crate) fn human(n: u64, unit: &str) -> String {
    let (mut x, mut prefix) = (n as f64, "");
    for next in ["k", "M", "G", "T", "P"] {
        if x < 999.95 {
            break;
        }
        (x, prefix) = (x / 1000.0, next);
    }
    let digits = usize::from(!prefix.is_empty());
    format!("{x:.digits$} {prefix}{unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn counts_for_people() {
        let cases =
            [(7, "7 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (1_340_000_000, "1.3 GB")];
        assert!(cases.iter().all(|(n, text)| human(*n, "B") == *text), "{}", human(999_960, "B"));
    }
}
