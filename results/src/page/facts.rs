//! What was measured and on what, in words.

use serde_json::{Value, json};

use crate::{
    run::{Manifest, Status},
    words::counted,
};

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
        add("data", format!("{}, {}, sha256 {}", file.path, counted(file.bytes, "byte"), file.sha256));
    }
    for lens in &manifest.lenses {
        add("lens", format!("{}, sha256 {}", lens.name, lens.sha256));
    }
    let counts = manifest.counts;
    if counts.tokens > 0 {
        let of = match counts.documents {
            0 => String::new(), // prompts, which are counted elsewhere
            n => format!(" of {}", counted(n, "document")),
        };
        add("read", format!("{}{of}", counted(counts.tokens, "token")));
    }
    if let Some(bos) = &manifest.bos {
        let token = bos.token.clone().unwrap_or_else(|| "none".into());
        add("BOS", format!("{token}; {}", bos.reason));
    }
    add("numbers", format!("{} on {}", manifest.dtype, manifest.device));
    add("seed", manifest.seed.to_string());
    let tool = &manifest.tool;
    add("versions", format!("{} {}, libtorch {}", tool.name, tool.version, manifest.libtorch));
    add("parity", manifest.parity.as_ref().map_or_else(|| "not checked".into(), parity));
    add("settings", manifest.config.to_string());
    add("command", manifest.argv.join(" "));
    json!(facts)
}

/// A verdict in words: `pass: 123 activations agree …`.
pub fn parity(verdict: &Value) -> String {
    let number = |name: &str| verdict.get(name).and_then(Value::as_f64);
    match (verdict["verdict"].as_str(), number("hooks"), number("worst"), number("tolerance")) {
        (Some("pass"), Some(hooks), Some(worst), _) => {
            format!(
                "pass: {hooks} activations agree with the reference; the largest error is {worst:.1e} of an activation's scale"
            )
        }
        (Some("fail"), Some(hooks), worst, Some(tolerance)) => {
            let worst =
                worst.map_or_else(|| "no number".into(), |x| format!("{x:.1e} of an activation's scale"));
            format!(
                "FAIL: of {hooks} activations some differ from the reference by more than {tolerance:.0e}; the largest error is {worst}"
            )
        }
        _ => verdict.to_string(),
    }
}
