//! `--prompts FILE`: prompts of `trace` and `patch`, a JSON object per line.

use std::path::Path;

use anyhow::{Context as _, ensure};
use layerscope::{results::hash::sha256_file, results::run::check_file};
use serde::de::DeserializeOwned;

/// Prompts, each with the line it stands in.
pub(crate) struct Lines<T> {
    pub(crate) all: Vec<(String, T)>,
    pub(crate) sha256: String,
}

impl<T: DeserializeOwned> Lines<T> {
    /// Every line that is not empty.
    ///
    /// # Errors
    /// A file that cannot be read or holds nothing, a line that is not such an object.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        check_file(path)?;
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(i, line): (usize, &str)| -> anyhow::Result<(String, T)> {
            let place = format!("{}:{}", path.display(), i + 1);
            let value = serde_json::from_str(line).map_err(|e| anyhow::anyhow!("{place}: {e}"))?;
            Ok((place, value))
        };
        let all: Vec<(String, T)> = lines.map(read).collect::<anyhow::Result<_>>()?;
        ensure!(!all.is_empty(), "{}: no prompts", path.display());
        Ok(Self { all, sha256: sha256_file(path, &|_| ())? })
    }
}
