//! `.gz` and `.zst` behind a text format's extension, inflated as a stream.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use zstd::stream::read::Decoder;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// A file's name without the extension that says how it is compressed, and that.
    pub(super) fn of(path: &Path) -> (PathBuf, Option<Self>) {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let compression = match extension.as_str() {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        };
        let inner = if compression.is_some() { path.with_extension("") } else { path.to_owned() };
        (inner, compression)
    }

    /// The file's bytes as they were; of several members (frames) put together all.
    pub(super) fn inflate(self, file: File) -> io::Result<impl Read + Send + 'static> {
        let file = BufReader::with_capacity(1 << 16, file);
        let bytes: Box<dyn Read + Send> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(Decoder::with_buffer(file)?),
        };
        Ok(Inflated { bytes, name: if self == Self::Gzip { "gzip" } else { "zstd" } })
    }
}

/// Says of an error that it is about the compression.
struct Inflated {
    bytes: Box<dyn Read + Send>,
    name: &'static str,
}

impl Read for Inflated {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(out).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::UnexpectedEof => io::Error::new(
                error.kind(),
                format!("the {} data end too early: the file is cut short", self.name),
            ),
            kind => io::Error::new(kind, format!("damaged {} data: {error}", self.name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Columns, Format, open_file};
    use flate2::{Compression as Level, write::GzEncoder};
    use std::io::Write as _;
    use std::path::Path;

    const LINES: &[u8] = b"{\"text\":\"a\"}\n{\"text\":\"\xC3\xA9\"}\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn read(path: &Path) -> Result<Vec<String>, String> {
        let rows = open_file(path, Format::of(path).map_err(|e| e.to_string())?, &Columns::text(None));
        let rows = rows.map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| row.text).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn whole_cut_short_and_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
        zstd.include_checksum(true).unwrap();
        zstd.write_all(LINES).unwrap();
        let zstd = zstd.finish().unwrap();
        for (name, packed) in [("a.jsonl.gz", gzip(LINES)), ("a.jsonl.zst", zstd)] {
            let path = dir.path().join(name);
            let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
            write(&packed);
            assert_eq!(read(&path).unwrap(), ["a", "é"], "{name}");
            write(&[&packed[..], &packed[..]].concat());
            assert_eq!(read(&path).unwrap().len(), 4, "{name}: two members");
            for len in 1..packed.len() {
                write(&packed[..len]);
                let error = read(&path).unwrap_err();
                assert!(error.contains("cut short") || error.contains("damaged"), "{name} {len}: {error}");
            }
            for at in 0..packed.len() {
                let mut bytes = packed.clone();
                bytes[at] ^= 0x10;
                write(&bytes);
                // A flip in a header field that nobody reads (time, system) changes nothing.
                if let Ok(texts) = read(&path) {
                    assert_eq!(texts, ["a", "é"], "{name} {at}");
                }
            }
        }
    }
}
