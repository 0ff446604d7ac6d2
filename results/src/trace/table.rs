//! `trajectory.parquet`: prompts as lenses read them, so that a report can show them without the model.
//!
//! One row per prompt, lens, horizon, layer and position: `prompt`, `lens`, `horizon`, `layer`, `pos`, `token_id` and
//! `token` (of the prompt), `entropy`, `kl`, `ce` (nats), `rank_of_final`, `rank_of_true` (0 is first), the likeliest
//! tokens in `top_ids`, `top_tokens`, `top_probs`, and the tokens that are followed through every layer in
//! `tracked_ids`, `tracked_probs`. Null: the prompt ends before there is something to compare with.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float64Array, Float64Builder, Int32Array, Int64Array, ListBuilder, RecordBatch,
        StringArray, StringBuilder, UInt32Array, UInt32Builder,
    },
    datatypes::SchemaRef,
    error::ArrowError,
};

use super::{LensTrace, Trace, TraceCell};
use crate::run::{RunError, Written, write_table};

/// The file's name in the run directory.
pub const TRAJECTORY: &str = "trajectory.parquet";

/// A row: which trace, lens, layer (by place) and position.
struct Row<'a> {
    prompt: usize,
    trace: &'a Trace,
    lens: &'a LensTrace,
    layer: usize,
    pos: usize,
    cell: &'a TraceCell,
}

/// Writes `RUN/trajectory.parquet`, whole or not at all. The manifest's `config` must have `n_layers` and `model_name`.
///
/// # Errors
/// A failed file operation.
pub fn write_traces(dir: &Path, traces: &[Trace]) -> Result<Written, RunError> {
    let path = dir.join(TRAJECTORY);
    let broken = |e: ArrowError| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
    let batch = batch(&rows(traces)).map_err(broken)?;
    write_table(&path, &batch)
}

fn rows(traces: &[Trace]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (prompt, trace) in traces.iter().enumerate() {
        for lens in &trace.lenses {
            for (layer, cells) in lens.layers.iter().zip(&lens.cells) {
                let row = |(pos, cell)| Row { prompt, trace, lens, layer: *layer, pos, cell };
                rows.extend(cells.iter().enumerate().map(row));
            }
        }
    }
    rows
}

fn batch(rows: &[Row<'_>]) -> Result<RecordBatch, ArrowError> {
    let ints = |get: &dyn Fn(&Row<'_>) -> usize| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| get(r) as i32)))
    };
    let texts = |get: &dyn Fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
    };
    let nats = |get: &dyn Fn(&TraceCell) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|r| get(r.cell)).collect::<Float64Array>())
    };
    let ranks = |get: &dyn Fn(&TraceCell) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|r| get(r.cell)).collect::<Int64Array>())
    };
    RecordBatch::try_from_iter_with_nullable([
        ("prompt", ints(&|r| r.prompt), false),
        ("lens", texts(&|r| r.lens.lens.clone()), false),
        ("horizon", ints(&|r| r.lens.horizon), false),
        ("layer", ints(&|r| r.layer), false),
        ("pos", ints(&|r| r.pos), false),
        (
            "token_id",
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.trace.tokens[r.pos].id))) as _,
            false,
        ),
        ("token", texts(&|r| r.trace.tokens[r.pos].text.clone()), false),
        ("entropy", nats(&|c| Some(c.entropy)), true),
        ("kl", nats(&|c| c.kl), true),
        ("ce", nats(&|c| c.ce), true),
        ("rank_of_final", ranks(&|c| c.rank_of_final), true),
        ("rank_of_true", ranks(&|c| c.rank_of_true), true),
        ("top_ids", ids(rows, |c| &c.top), true),
        ("top_tokens", tokens(rows), true),
        ("top_probs", probs(rows, |c| &c.top), true),
        ("tracked_ids", ids(rows, |c| &c.tracked), true),
        ("tracked_probs", probs(rows, |c| &c.tracked), true),
    ])
}

fn ids(rows: &[Row<'_>], get: fn(&TraceCell) -> &Vec<(u32, f64)>) -> ArrayRef {
    let mut list = ListBuilder::new(UInt32Builder::new());
    for row in rows {
        list.append_value(get(row.cell).iter().map(|(id, _)| Some(*id)));
    }
    Arc::new(list.finish())
}

fn probs(rows: &[Row<'_>], get: fn(&TraceCell) -> &Vec<(u32, f64)>) -> ArrayRef {
    let mut list = ListBuilder::new(Float64Builder::new());
    for row in rows {
        list.append_value(get(row.cell).iter().map(|(_, p)| Some(*p)));
    }
    Arc::new(list.finish())
}

fn tokens(rows: &[Row<'_>]) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        list.append_value(row.cell.top.iter().map(|(id, _)| Some(row.trace.text(*id).unwrap_or_default())));
    }
    Arc::new(list.finish())
}

/// Names and types of the columns.
pub(super) fn schema() -> Result<SchemaRef, ArrowError> {
    Ok(batch(&[])?.schema())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::{PromptToken, read_traces};
    use super::*;
    use crate::run::{METRICS, Manifest, write_metrics};

    fn trace(salt: u32) -> Trace {
        let tokens = [(5 + salt, "<script>"), (9, "\u{202e}漢")];
        let tokens = tokens.map(|(id, text)| PromptToken { id, text: text.into() }).to_vec();
        let cell = |layer: u32, pos: usize| TraceCell {
            top: vec![(layer + 1, 0.5), (9, 0.25)],
            entropy: 1.0 / 3.0,
            kl: (pos == 0).then_some(0.1),
            ce: (pos == 0).then_some(2.5),
            rank_of_final: Some(i64::from(layer)),
            rank_of_true: None,
            tracked: vec![(1, 0.5), (2, 1e-9)],
        };
        let lens = |name: &str, horizon| LensTrace {
            lens: name.into(),
            horizon,
            layers: vec![0, 4],
            cells: (0..2).map(|l| (0..2).map(|i| cell(l, i)).collect()).collect(),
        };
        let mut trace = Trace::new("a model", 4, tokens);
        trace.lenses = vec![lens("logit", 1), lens("future", 1), lens("future", 2)];
        trace.spell(|id| if id == 9 { "\u{202e}漢".into() } else { format!("t{id}") });
        trace
    }

    #[test]
    fn read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("view");
        manifest.config = json!({ "n_layers": 4, "model_name": "a model" });
        manifest.outputs = None; // no run stands behind it that could be unfinished
        manifest.write(dir.path()).unwrap();
        let traces = [trace(0), trace(1)];
        let first = write_traces(dir.path(), &traces).unwrap();
        assert_eq!(write_traces(dir.path(), &traces).unwrap(), first);
        assert_eq!(read_traces(dir.path()).unwrap(), traces);
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRAJECTORY);
        let message = || read_traces(dir.path()).unwrap_err().to_string();
        assert!(matches!(read_traces(dir.path()), Err(RunError::Io { .. })));
        let mut manifest = Manifest::new("view");
        manifest.config = json!({ "n_layers": 4 });
        manifest.outputs = None;
        manifest.write(dir.path()).unwrap();
        write_metrics(dir.path(), &[]).unwrap();
        fs::rename(dir.path().join(METRICS), &path).unwrap();
        assert!(message().contains("it has no column lens of type Utf8"), "{}", message());
        let trace = trace(0);
        let write = |rows: &[Row<'_>]| write_table(&path, &batch(rows).unwrap()).unwrap();
        let mut torn = rows(std::slice::from_ref(&trace));
        torn.remove(3); // layer 4, position 1 of the first lens
        write(&torn);
        assert!(message().contains("lens logit has not 2 positions at every layer"), "{}", message());
        torn.remove(0);
        write(&torn);
        assert!(message().contains("position 1 is out of order"), "{}", message());
        let mut other = trace.clone();
        other.lenses[0].cells[1][0].tracked[0].0 = 77;
        write(&rows(std::slice::from_ref(&other)));
        assert!(message().contains("follows other tokens at another layer"), "{}", message());
        write_traces(dir.path(), &[trace]).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(read_traces(dir.path()), Err(RunError::BadMetrics { .. })));
    }
}
