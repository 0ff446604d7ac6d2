//! How a download tells where it is.

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
