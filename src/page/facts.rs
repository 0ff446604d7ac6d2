//! What was measured and on what, in words.

use serde_json::{Value, json};

use crate::run::{Manifest, Status};

/// The manifest as `[label, value]` pairs for people. Hashes are whole.
pub(super) fn of(manifest: &Manifest) -> Value {
    let mut facts: Vec<(&str, String)> = vec![("run", manifest.kind.clone())];
    let mut add = |label, value: String| facts.push((label, value));
    if manifest.status == Status::Running {
        add("status", "not finished".into());
    }
    if let Some(model) = &manifest.model {
        add("model", format!("{} ({}), sha256 {}", model.path, model.family, model.sha256));
    }
    if let Some(sha256) = &manifest.tokenizer_sha256 {
        add("tokenizer", format!("sha256 {sha256}"));
    }
    for file in &manifest.data {
        add("data", format!("{}, {} bytes, sha256 {}", file.path, file.bytes, file.sha256));
    }
    for lens in &manifest.lenses {
        add("lens", format!("{}, sha256 {}", lens.name, lens.sha256));
    }
    let counts = manifest.counts;
    if counts.tokens > 0 {
        add("read", format!("{} tokens of {} documents", counts.tokens, counts.documents));
    }
    if let Some(bos) = &manifest.bos {
        let token = bos.token.clone().unwrap_or_else(|| "none".into());
        add("BOS", format!("{token}; {}", bos.reason));
    }
    add("numbers", format!("{} on {}", manifest.dtype, manifest.device));
    add("seed", manifest.seed.to_string());
    let tool = &manifest.tool;
    add("versions", format!("{} {}, libtorch {}", tool.name, tool.version, manifest.libtorch));
    add("parity", manifest.parity.as_ref().map_or_else(|| "not checked in this run".into(), parity));
    add("settings", manifest.config.to_string());
    add("command", manifest.argv.join(" "));
    json!(facts)
}

fn parity(verdict: &Value) -> String {
    verdict.as_str().map_or_else(|| verdict.to_string(), str::to_owned)
}
