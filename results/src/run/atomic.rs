//! Whole files or none: write under a temporary name, flush to the disk, rename.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use super::{RunError, fault};

/// Between a file's name and the random end of its temporary name.
const TEMP: &str = ".tmp-";
/// Letters and digits of that end: 71 bits.
const RANDOM: usize = 12;

/// Size and checksum of a file just written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Length of the file.
    pub bytes: u64,
    /// XXH64 (seed 0) of its bytes, computed while writing.
    pub xxh64: u64,
}

/// XXH64 (seed 0), the checksum of [`Written`]: guards against damage, not against malice.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// The same of a file, read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> io::Result<u64> {
    let (mut file, mut buffer, mut hash) = (File::open(path)?, vec![0; 1 << 20], XxHash64::with_seed(0));
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            n => hash.write(&buffer[..n]),
        }
    }
}

/// The open temporary file that [`write_atomic`] hands to its closure.
#[derive(Debug)]
pub struct AtomicFile {
    inner: BufWriter<Raw>,
    bytes: u64,
    hash: XxHash64,
    /// Keeps what the system said even where a file format's error type swallows it.
    failed: Option<io::Error>,
}

impl AtomicFile {
    fn new(file: File, path: &Path) -> Self {
        let inner = BufWriter::with_capacity(1 << 18, Raw { file, path: path.to_path_buf() });
        Self { inner, bytes: 0, hash: XxHash64::with_seed(0), failed: None }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf).inspect_err(|e| self.failed = Some(copy(e)))?;
        self.hash.write(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().inspect_err(|e| self.failed = Some(copy(e)))
    }
}

/// The file below the buffer; each write is one step that a test can make fail.
#[derive(Debug)]
struct Raw {
    file: File,
    path: PathBuf,
}

impl Write for Raw {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Err(e) = fault::step(&self.path) {
            let _torn = self.file.write(&buf[..buf.len() / 2]);
            return Err(e);
        }
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn copy(e: &io::Error) -> io::Error {
    e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error)
}

/// Writes `path` as a whole: temporary file in the same folder (made if missing), flush and fsync, rename, fsync of the
/// folder.
///
/// The temporary file has a name that nobody can foresee and is never an existing one, and the rename replaces a link
/// at `path` itself, not what it points to. What is no file (`/dev/stdout`, a pipe) is written to as it is.
///
/// # Errors
/// What the closure returns, or a [`RunError`] naming the file. The temporary file is removed and `path` is as before.
pub fn write_atomic<T, E: From<RunError>>(
    path: &Path,
    write: impl FnOnce(&mut AtomicFile) -> Result<T, E>,
) -> Result<(T, Written), E> {
    write_atomic_sized(path, 0, write)
}

/// As [`write_atomic`], with the expected size in bytes for the message of a full disk.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_sized<T, E: From<RunError>>(
    path: &Path,
    expected: u64,
    write: impl FnOnce(&mut AtomicFile) -> Result<T, E>,
) -> Result<(T, Written), E> {
    if is_stream(path) {
        return write_stream(path, expected, write);
    }
    let (mut file, temp, made) = create(path).map_err(|e| RunError::sized_io("create", path, e, expected))?;
    let outcome =
        settle(path, expected, &mut file, write, |file| publish(file, &temp, path, made.as_deref()));
    if outcome.is_err() {
        let _gone_or_swept_later = remove(&temp);
    }
    outcome
}

/// Lets the closure write, ends the file, and says what went wrong in the system's words.
fn settle<T, E: From<RunError>>(
    path: &Path,
    expected: u64,
    file: &mut AtomicFile,
    write: impl FnOnce(&mut AtomicFile) -> Result<T, E>,
    end: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
) -> Result<(T, Written), E> {
    let outcome = write(file);
    let needs = expected.max(file.bytes);
    let full = |op, e| E::from(RunError::sized_io(op, path, e, needs));
    let value = match (outcome, file.failed.take()) {
        (_, Some(e)) => return Err(full("write", e)),
        (Err(e), None) => return Err(e),
        (Ok(value), None) => value,
    };
    end(file).map_err(|e| full("write", e))?;
    Ok((value, Written { bytes: file.bytes, xxh64: file.hash.finish() }))
}

/// Whether a path is a device or a pipe, or stands for one: nothing there can be replaced by a file.
fn is_stream(path: &Path) -> bool {
    let of_system = ["/dev", "/proc"].iter().any(|root| path.starts_with(root));
    fs::metadata(path).is_ok_and(|m| !m.is_dir() && (of_system || !m.is_file()))
}

fn write_stream<T, E: From<RunError>>(
    path: &Path,
    expected: u64,
    write: impl FnOnce(&mut AtomicFile) -> Result<T, E>,
) -> Result<(T, Written), E> {
    let file = OpenOptions::new().write(true).open(path).map_err(|e| RunError::io("open", path, e))?;
    settle(path, expected, &mut AtomicFile::new(file, path), write, |file| file.inner.flush())
}

/// Opens a new file beside `path` (its folder is made); says how it is called and what folders were made.
fn create(path: &Path) -> io::Result<(AtomicFile, PathBuf, Option<PathBuf>)> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = folder
        .ancestors()
        .take_while(|a| !a.as_os_str().is_empty() && !a.exists())
        .last()
        .map(Path::to_path_buf);
    fault::step(path)?;
    fs::create_dir_all(folder)?;
    fault::step(path)?;
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(TEMP);
    // As any new file is opened, where the crate would keep others from reading it.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let temp = tempfile::Builder::new().prefix(&prefix).rand_bytes(RANDOM).make_in(folder, open)?;
    let (file, temp) = temp.keep().map_err(|e| e.error)?;
    Ok((AtomicFile::new(file, &temp), temp, made))
}

fn publish(file: &mut AtomicFile, temp: &Path, path: &Path, made: Option<&Path>) -> io::Result<()> {
    file.inner.flush()?;
    fault::step(temp)?;
    if !fault::planned() {
        file.inner.get_ref().file.sync_all()?; // most of such a test's time, and none can cut the power
    }
    fault::step(temp)?;
    fs::rename(temp, path)?;
    fault::step(temp)?;
    // New folders are entries of their parents, which must reach the disk too.
    let top = made.and_then(Path::parent).or(path.parent());
    for folder in path.ancestors().skip(1) {
        sync_folder(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        if Some(folder) == top {
            break;
        }
    }
    Ok(())
}

/// A rename is only on the disk once its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) && !fault::planned() { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes a file; that it is already gone is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fault::step(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The name behind a temporary file's name (`.name.tmp-RANDOM`), if it is one.
pub(super) fn temp_target(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.rsplit_once(TEMP)?;
    (!target.is_empty() && !random.is_empty() && random.bytes().all(|b| b.is_ascii_alphanumeric()))
        .then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) -> Result<((), Written), RunError> {
        write_atomic_sized(path, 3_000_000, |f| {
            f.write_all(text.as_bytes()).map_err(|e| RunError::io("write", path, e))
        })
    }

    #[test]
    fn old_or_new_content_whatever_operation_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file.txt");
        for after in 0.. {
            put(&path, "old").unwrap();
            fault::plan(dir.path(), after, io::ErrorKind::Other);
            let outcome = put(&path, "new, longer");
            let hit = fault::clear(dir.path());
            let text = fs::read_to_string(&path).unwrap();
            assert!(text == "old" || text == "new, longer", "{text}");
            if !hit {
                assert_eq!(outcome.unwrap().1, Written { bytes: 11, xxh64: hash_bytes(b"new, longer") });
                assert!(after > 4);
                break;
            }
            assert!(outcome.is_err());
        }
    }

    #[test]
    fn full_disk_names_file_and_size() {
        let dir = tempfile::tempdir().unwrap();
        fault::plan(dir.path(), 2, io::ErrorKind::StorageFull);
        let message = put(&dir.path().join("x.bin"), "data").unwrap_err().to_string();
        fault::clear(dir.path());
        assert!(message.starts_with("no space left on device while writing"), "{message}");
        assert!(message.contains("x.bin (needs about 3 MB, "), "{message}");
    }

    #[test]
    fn only_our_temporary_names() {
        assert_eq!(temp_target(".manifest.json.tmp-12"), Some("manifest.json"));
        assert_eq!(temp_target(".manifest.json.tmp-aZ09"), Some("manifest.json"));
        for foreign in [".bashrc", "a.tmp-1", "..tmp-", ".x.tmp-1-a", ".tmp-3"] {
            assert_eq!(temp_target(foreign), None, "{foreign}");
        }
    }

    /// The names of a folder, while a file `page.html` is written into it.
    fn names_while_writing(path: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let write = |f: &mut AtomicFile| -> Result<(), RunError> {
            let entries = fs::read_dir(path.parent().unwrap()).unwrap();
            names.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
            f.write_all(b"page").map_err(|e| RunError::io("write", path, e))
        };
        write_atomic(path, write).unwrap();
        names
    }

    #[cfg(unix)]
    #[test]
    fn links_that_others_planted_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("page.html"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.path().join(format!(".page.html.tmp-{}", std::process::id()))).unwrap();
        symlink(&victim, &path).unwrap();
        let of = |names: Vec<String>| -> Vec<String> {
            let own =
                |n: &String| n.starts_with(".page.html.tmp-") && n.len() == ".page.html.tmp-".len() + RANDOM;
            names.into_iter().filter(own).collect()
        };
        let (first, second) = (of(names_while_writing(&path)), of(names_while_writing(&path)));
        assert!(first.len() == 1 && second.len() == 1 && first != second, "{first:?} {second:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "page");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), mode(&victim), "readable by whoever may read other new files");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_are_written_to_and_not_replaced() {
        let put = |path: &str| put(Path::new(path), "some text");
        assert_eq!(put("/dev/null").unwrap().1.bytes, 9);
        let message = put("/dev/full").unwrap_err().to_string();
        assert!(message.starts_with("no space left on device while writing /dev/full"), "{message}");
        for device in ["/dev/null", "/dev/full"] {
            assert!(!fs::metadata(device).unwrap().is_file(), "{device}");
        }
    }
}
