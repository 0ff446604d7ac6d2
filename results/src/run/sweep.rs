//! Finding and deleting files of ours, and no others.

use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::{remove, temp_target};
use super::{MANIFEST, RunError};

/// The path that a temporary file was to become.
pub(super) fn temp_of(relative: &Path) -> Option<PathBuf> {
    let name = relative.file_name()?.to_str()?;
    temp_target(name).map(|target| relative.with_file_name(target))
}

/// The files that `ours` (by relative path) accepts, in order. Does not follow links, nor enter another run.
pub(super) fn find(root: &Path, ours: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>, RunError> {
    let mut folders = vec![root.to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| RunError::io("read", &folder, e))? {
            let entry = entry.map_err(|e| RunError::io("read", &folder, e))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| RunError::io("read", &path, e))?;
            let relative = path.strip_prefix(root).unwrap_or(&path);
            if kind.is_dir() {
                if !path.join(MANIFEST).exists() {
                    folders.push(path);
                }
            } else if ours(relative) {
                found.push(relative.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Deletes the files that `ours` accepts, and folders left empty by that.
///
/// # Errors
/// A file that cannot be removed.
pub fn sweep(root: &Path, ours: &dyn Fn(&Path) -> bool) -> Result<(), RunError> {
    let found = find(root, ours)?;
    for relative in &found {
        let path = root.join(relative);
        remove(&path).map_err(|e| RunError::io("remove", &path, e))?;
    }
    for relative in found {
        for folder in relative.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()) {
            let _not_empty = fs::remove_dir(root.join(folder));
        }
    }
    Ok(())
}
