//! The model and the texts that come with the program, for the tour and for trying things out.

use std::{io::Write as _, path::Path};

use super::JobError;
use crate::results::run::{RunError, write_atomic};

/// The bundled model (GPT-2, 8 layers, trained on old English books) and texts sampled from it.
const FILES: [(&str, &[u8]); 7] = [
    ("model/config.json", include_bytes!("../../fixtures/gpt2-alice-8l/config.json")),
    ("model/tokenizer.json", include_bytes!("../../fixtures/gpt2-alice-8l/tokenizer.json")),
    ("model/model.safetensors", include_bytes!("../../fixtures/gpt2-alice-8l/model.safetensors")),
    ("reference.safetensors", include_bytes!("../../fixtures/gpt2-alice-8l/reference.safetensors")),
    ("stories.jsonl", include_bytes!("../../fixtures/stories.jsonl")),
    ("statements.csv", include_bytes!("../../fixtures/probes/statements.csv")),
    ("pairs.csv", include_bytes!("../../fixtures/probes/pairs.csv")),
];

/// Writes them below `dir`: `model/`, `reference.safetensors` (transformers' activations), `stories.jsonl` (texts
/// sampled from the model), dealt into `fit.jsonl` and `held-out.jsonl`, and labelled sentences.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path) -> Result<(), JobError> {
    for (name, bytes) in FILES {
        put(&dir.join(name), bytes)?;
    }
    let stories =
        FILES.iter().find(|(name, _)| *name == "stories.jsonl").map_or(&b""[..], |(_, bytes)| bytes);
    for (name, side) in [("fit.jsonl", 0), ("held-out.jsonl", 1)] {
        let lines = stories.split_inclusive(|byte| *byte == b'\n').enumerate();
        let half: Vec<u8> =
            lines.filter(|(i, _)| i % 2 == side).flat_map(|(_, line)| line).copied().collect();
        put(&dir.join(name), &half)?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_atomic(path, |file| file.write_all(bytes).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}
