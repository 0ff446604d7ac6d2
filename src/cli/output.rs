//! Where words go: data to stdout, notes and progress to stderr, or NDJSON.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use layerscope::run::{Claim, METRICS};
use serde_json::{Value, json};

use super::args::OutputArgs;

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
            eprintln!("{}", line.as_ref());
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
        eprintln!("warning: {}", line.as_ref());
    }

    /// Human-readable data, unless NDJSON was asked for.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        if self.args.json { Ok(()) } else { writeln!(io::stdout().lock(), "{text}").map_err(to_stdout) }
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
        writeln!(io::stdout().lock(), "{event}").map_err(to_stdout)
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
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                format!("{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  eta {{eta}}"),
            ),
            None => {
                (ProgressBar::new_spinner(), format!("{{spinner}} {{msg}} {{human_pos}} {unit}  {{per_sec}}"))
            }
        };
        // The template is a constant; were it wrong, a plain bar would be drawn.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style).with_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Says where writing failed: "no space left on device" by itself names nothing.
pub(crate) fn to_stdout(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
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
