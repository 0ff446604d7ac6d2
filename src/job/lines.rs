//! `prompts`: prompts of `trace` and `patch` from a file, a JSON object per line.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::JobError;
use crate::{results::hash::sha256_file, results::run::check_file};

/// Prompts, each with the line it stands in.
#[derive(Debug)]
pub struct Lines<T> {
    /// `FILE:LINE`, and what stands there.
    pub all: Vec<(String, T)>,
    /// The file's hash.
    pub sha256: String,
}

impl<T: DeserializeOwned> Lines<T> {
    /// Every line that is not empty.
    ///
    /// # Errors
    /// A file that cannot be read or holds nothing, a line that is not such an object.
    pub fn read(path: &Path) -> Result<Self, JobError> {
        let file = path.display().to_string();
        check_file(path).map_err(JobError::usage)?;
        let text = std::fs::read_to_string(path).map_err(|e| JobError::usage(e).at(&file))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(i, line): (usize, &str)| {
            let place = format!("{file}:{}", i + 1);
            let value = serde_json::from_str(line).map_err(|e| JobError::usage(format!("{place}: {e}")))?;
            Ok((place, value))
        };
        let all = lines.map(read).collect::<Result<Vec<(String, T)>, JobError>>()?;
        if all.is_empty() {
            return Err(JobError::usage(format!("{file}: no prompts")));
        }
        Ok(Self { all, sha256: sha256_file(path, &|_| ()).map_err(JobError::usage)? })
    }
}
