//! Prompts and what became of them as a run folder: what `generate` and `think` share.

use std::{io::Write as _, path::Path};

use serde_json::Value;

use crate::{
    job::{JobError, read_stdin},
    results::run::{Claim, Counts, METRICS, MetricRow, RunError, write_atomic, write_metrics},
};

/// The prompts of `generate` and what became of them, one JSON object a line.
pub(super) const GENERATED: &str = "generated.jsonl";
/// The same of `think`.
pub(super) const THOUGHTS: &str = "thoughts.jsonl";

/// Texts of a job's `text`, of which one may be `-`, stdin.
pub(super) fn prompt_texts(texts: &[String]) -> Result<Vec<String>, JobError> {
    if texts.iter().filter(|text| *text == "-").count() > 1 {
        return Err(JobError::setting("text", "stdin (`-`) can be read once"));
    }
    texts.iter().map(|text| if text == "-" { read_stdin() } else { Ok(text.clone()) }).collect()
}

/// Writes a run of texts: metrics.parquet, and a line per prompt into `name`.
pub(super) fn write_texts(
    claim: Claim,
    (out, name): (&Path, &str),
    rows: &[MetricRow],
    lines: &[Value],
) -> Result<(), JobError> {
    let dir = claim.begin(&|p| [METRICS, GENERATED, THOUGHTS].iter().any(|own| p == Path::new(own)))?;
    let path = out.join(name);
    write_atomic(&path, |file| {
        let write = |line: &Value| writeln!(file, "{line}").map_err(|e| RunError::io("write", &path, e));
        lines.iter().try_for_each(write)
    })?;
    write_metrics(out, rows)?;
    let tokens =
        |key: &str| lines.iter().filter_map(|l| l[key].as_array()).map(Vec::len).sum::<usize>() as u64;
    let counts = Counts {
        documents: lines.len() as u64,
        tokens: tokens("prompt_ids") + tokens("token_ids"),
        rows: rows.len() as u64,
        ..Counts::default()
    };
    dir.finish(counts, None)?;
    Ok(())
}
