//! How a download tells where it is.

use indicatif::{ProgressBar, ProgressStyle};

/// A file whose download begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStart<'a> {
    /// Name in the repository.
    pub name: &'a str,
    /// Number of this file, from 1.
    pub number: usize,
    /// Number of files to fetch, cached ones not counted.
    pub of: usize,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Hears of a download's progress. `()` hears nothing.
pub trait Progress {
    /// A file begins, or begins again after a broken connection.
    fn start(&mut self, file: FileStart<'_>);
    /// So many more of its bytes are on disk.
    fn advance(&mut self, bytes: u64);
    /// The file is whole.
    fn finish(&mut self);
    /// Another process downloads this model; nothing happens here until it is done.
    fn waiting(&mut self, _id: &str) {}
}

impl Progress for () {
    fn start(&mut self, _: FileStart<'_>) {}
    fn advance(&mut self, _: u64) {}
    fn finish(&mut self) {}
}

/// A bar on stderr: file i of n, bytes, speed and time left. Draws nothing when stderr is no terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// An empty bar, not yet drawn.
    pub fn new() -> Self {
        Self(ProgressBar::no_length())
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn start(&mut self, file: FileStart<'_>) {
        const TEMPLATE: &str = "{prefix} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
        // The template is a constant; were it wrong, a plain bar would be drawn.
        self.0.set_style(
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.0.set_length(file.bytes);
        self.0.reset();
        self.0.set_prefix(format!("[{}/{}]", file.number, file.of));
        self.0.set_message(file.name.to_owned());
    }

    fn advance(&mut self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn finish(&mut self) {
        self.0.finish_and_clear();
    }

    fn waiting(&mut self, id: &str) {
        self.0.println(format!("waiting for another process that downloads {id}"));
    }
}
