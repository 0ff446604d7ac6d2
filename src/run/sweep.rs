//! Deleting files of ours, and no others.

use std::fs;
use std::path::{Path, PathBuf};

use super::RunError;
use super::atomic::{remove, temp_target};

/// The path that a temporary file was to become.
pub(super) fn temp_of(relative: &Path) -> Option<PathBuf> {
    let name = relative.file_name()?.to_str()?;
    temp_target(name).map(|target| relative.with_file_name(target))
}

/// Deletes the files that `ours` (by relative path) accepts, and folders left empty by that. Does not follow links.
pub(crate) fn sweep(root: &Path, ours: &dyn Fn(&Path) -> bool) -> Result<(), RunError> {
    let mut folders = vec![root.to_path_buf()];
    let mut emptied = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| RunError::io("read", &folder, e))? {
            let entry = entry.map_err(|e| RunError::io("read", &folder, e))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| RunError::io("read", &path, e))?;
            let relative = path.strip_prefix(root).unwrap_or(&path);
            if kind.is_dir() {
                folders.push(path);
            } else if ours(relative) {
                remove(&path).map_err(|e| RunError::io("remove", &path, e))?;
                emptied.push(folder.clone());
            }
        }
    }
    for folder in emptied {
        for folder in folder.ancestors().take_while(|a| *a != root && a.starts_with(root)) {
            let _not_empty = fs::remove_dir(folder);
        }
    }
    Ok(())
}
