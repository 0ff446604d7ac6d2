//! What was measured and on what, in words.

use serde_json::{Value, json};

use crate::run::{Manifest, MetricRow, Status};

/// Fewer documents or groups than this make an interval a rough guess.
const FEW_CLUSTERS: i64 = 30;

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

/// What the manifest and the numbers themselves give reason to say: an unfinished run, few or single clusters, numbers
/// without intervals, parity that was not checked or failed.
pub fn caveats(manifest: &Manifest, rows: &[MetricRow]) -> Vec<String> {
    let mut caveats = Vec::new();
    if manifest.status == Status::Running {
        caveats.push("The run has not finished: its numbers may change.".into());
    }
    let clusters = rows.iter().map(|r| r.n_clusters).filter(|n| *n > 0).min();
    caveats.extend(match clusters {
        Some(1) => Some("One document or group: there is nothing to resample, so no intervals.".to_owned()),
        Some(n) if n < FEW_CLUSTERS => {
            Some(format!("Only {n} documents or groups: intervals from so few are rough, often too narrow."))
        }
        _ => None,
    });
    let spread: Vec<_> = rows.iter().filter(|r| r.lower.is_none()).map(|r| r.metric.as_str()).collect();
    if !rows.is_empty() && spread.len() == rows.len() && clusters != Some(1) {
        caveats.push("These numbers have no intervals: do not read much into small differences.".into());
    }
    let trained = rows.iter().any(|r| r.metric.starts_with("train_"));
    if trained {
        caveats
            .push("train_… numbers are in-sample; the numbers to quote are those without the prefix.".into());
    }
    if rows.iter().any(|r| r.metric == "pr") {
        caveats.push(
            "pr is in-sample and rises with the number of dimensions; pr_held_out is the one to quote."
                .into(),
        );
    }
    if manifest.parity.is_none() && manifest.model.is_some() {
        caveats.push("Whether the model computes what its reference does was not checked in this run (layerscope verify).".into());
    }
    caveats
}
