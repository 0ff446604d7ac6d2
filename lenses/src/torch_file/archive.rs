//! The zip around the pickle.

use std::io::{Cursor, Read as _};

use zip::{CompressionMethod, ZipArchive};

use super::TorchFileError;

/// A lens has a few hundred tensors; their pickle has some hundred bytes for each.
const MAX_PICKLE: u64 = 16 << 20;
const MAX_ENTRIES: usize = 1 << 16;

/// An open file of `torch.save`, its names checked.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder all entries are in; torch names it after the file.
    root: String,
    bytes: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, TorchFileError> {
        if bytes.first() == Some(&0x80) {
            return Err(TorchFileError::Legacy); // the PROTO opcode of a bare pickle
        }
        let zip = ZipArchive::new(Cursor::new(bytes))?;
        if zip.len() > MAX_ENTRIES {
            return Err(TorchFileError::Zip(format!(
                "{} entries, at most {MAX_ENTRIES} are read",
                zip.len()
            )));
        }
        let root = root(&zip)?;
        let mut archive = Self { zip, root, bytes: bytes.len() as u64 };
        archive.check_byte_order()?;
        Ok(archive)
    }

    /// The bytes of `data.pkl`.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, TorchFileError> {
        self.entry("data.pkl", MAX_PICKLE)
    }

    /// The bytes of the storage `key`, at most `limit` of them.
    pub(super) fn storage(&mut self, key: &str, limit: u64) -> Result<Vec<u8>, TorchFileError> {
        self.entry(&format!("data/{key}"), limit)
    }

    /// Where in the file the storage `key` begins, and its bytes.
    pub(super) fn place(&mut self, key: &str) -> Result<(u64, u64), TorchFileError> {
        let name = format!("{}/data/{key}", self.root);
        let (index, size) = self.stored(&name)?;
        let start = self.zip.by_index_raw(index)?.data_start();
        match start {
            Some(start) if start.checked_add(size).is_some_and(|end| end <= self.bytes) => Ok((start, size)),
            _ => Err(TorchFileError::Entry {
                entry: name,
                reason: format!("of {size} bytes ends outside the file"),
            }),
        }
    }

    /// Files of old versions of torch do not say; they are little-endian.
    fn check_byte_order(&mut self) -> Result<(), TorchFileError> {
        let name = format!("{}/byteorder", self.root);
        if self.zip.index_for_name(&name).is_none() {
            return Ok(());
        }
        let order = self.entry("byteorder", 16)?;
        if order == b"little" {
            return Ok(());
        }
        let order = String::from_utf8_lossy(&order).into_owned();
        Err(TorchFileError::Entry {
            entry: name,
            reason: format!("says {order:?}: only little-endian files are read"),
        })
    }

    /// The number of an entry that is stored as it is, and its size.
    fn stored(&mut self, name: &str) -> Result<(usize, u64), TorchFileError> {
        let bad = |reason: String| TorchFileError::Entry { entry: name.into(), reason };
        let Some(index) = self.zip.index_for_name(name) else { return Err(bad("is missing".into())) };
        let raw = self.zip.by_index_raw(index)?;
        if raw.encrypted() {
            return Err(bad("is encrypted".into()));
        }
        if raw.compression() != CompressionMethod::Stored {
            return Err(bad(format!("is compressed ({}); torch.save stores", raw.compression())));
        }
        Ok((index, raw.size()))
    }

    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, TorchFileError> {
        let name = format!("{}/{name}", self.root);
        let (index, size) = self.stored(&name)?;
        let bad = |reason: String| TorchFileError::Entry { entry: name.clone(), reason };
        if size > limit {
            return Err(bad(format!("has {size} bytes, at most {limit} can be right")));
        }
        // Not by_index_raw: this one checks the sum.
        let mut bytes = Vec::new();
        let read = self.zip.by_index(index)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| bad(format!("cannot be read: {e}")))?;
        if bytes.len() as u64 != size {
            return Err(bad(format!("has {} bytes, its header says {size}", bytes.len())));
        }
        Ok(bytes)
    }
}

/// The folder of the one `data.pkl`. Nothing is ever unpacked to the disk, but a name that would leave its folder tells
/// that the file is not torch's.
fn root(zip: &ZipArchive<Cursor<&[u8]>>) -> Result<String, TorchFileError> {
    let mut root = None;
    for name in zip.file_names() {
        let name = name?;
        if name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..") {
            let reason = "has a name that leaves the archive".into();
            return Err(TorchFileError::Entry { entry: name.into_owned(), reason });
        }
        if let Some(folder) = name.strip_suffix("/data.pkl").filter(|folder| !folder.contains('/')) {
            if root.is_some() {
                return Err(TorchFileError::Zip("more than one data.pkl".into()));
            }
            root = Some(folder.to_owned());
        }
    }
    root.ok_or_else(|| TorchFileError::Zip("no data.pkl inside".into()))
}
