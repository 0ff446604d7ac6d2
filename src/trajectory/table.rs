//! `trajectory.parquet`: prompts as lenses read them, so that a report can show them without the model.
//!
//! One row per prompt, lens, horizon, layer and position: `prompt`, `lens`, `horizon`, `layer`, `pos`, `token_id` and
//! `token` (of the prompt), `entropy`, `kl`, `ce` (nats), `rank_of_final`, `rank_of_true` (0 is first), the likeliest
//! tokens in `top_ids`, `top_tokens`, `top_probs`, and the tokens that are followed through every layer in
//! `tracked_ids`, `tracked_probs`. Null: the prompt ends before there is something to compare with.

use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int32Array, Int64Array, ListBuilder,
        RecordBatch, StringArray, StringBuilder, UInt32Array, UInt32Builder,
    },
    datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, UInt32Type},
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Cell, LensTrace, PromptToken, Trace};
use crate::run::{Manifest, RunError, Written, write_table};

/// The file's name in the run directory.
pub const TRAJECTORY: &str = "trajectory.parquet";

/// A row: which trace, lens, layer (by place) and position.
struct Row<'a> {
    prompt: usize,
    trace: &'a Trace,
    lens: &'a LensTrace,
    layer: usize,
    pos: usize,
    cell: &'a Cell,
}

/// Writes `RUN/trajectory.parquet`, whole or not at all. The manifest's `config` must have `n_layers` and `model_name`.
///
/// # Errors
/// A failed file operation.
pub fn write_traces(dir: &Path, traces: &[Trace]) -> Result<Written, RunError> {
    let path = dir.join(TRAJECTORY);
    let broken =
        |e: arrow::error::ArrowError| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
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

fn batch(rows: &[Row<'_>]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let ints = |get: &dyn Fn(&Row<'_>) -> usize| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| get(r) as i32)))
    };
    let texts = |get: &dyn Fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
    };
    let nats = |get: &dyn Fn(&Cell) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|r| get(r.cell)).collect::<Float64Array>())
    };
    let ranks = |get: &dyn Fn(&Cell) -> Option<i64>| -> ArrayRef {
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

fn ids(rows: &[Row<'_>], get: fn(&Cell) -> &Vec<(u32, f64)>) -> ArrayRef {
    let mut list = ListBuilder::new(UInt32Builder::new());
    for row in rows {
        list.append_value(get(row.cell).iter().map(|(id, _)| Some(*id)));
    }
    Arc::new(list.finish())
}

fn probs(rows: &[Row<'_>], get: fn(&Cell) -> &Vec<(u32, f64)>) -> ArrayRef {
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

/// Reads `RUN/trajectory.parquet` and what the manifest says of the model.
///
/// # Errors
/// When there is no such file, or it is not what [`write_traces`] writes.
pub fn read_traces(dir: &Path) -> Result<Vec<Trace>, RunError> {
    let path = dir.join(TRAJECTORY);
    let broken = |reason: String| RunError::BadMetrics { path: path.clone(), reason };
    let file = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
    let config = Manifest::read(dir)?.map(|m| m.config).unwrap_or_default();
    let n_layers =
        config["n_layers"].as_u64().ok_or_else(|| broken("its manifest names no n_layers".into()))?;
    let model = config["model_name"].as_str().unwrap_or_default();
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file))
        .and_then(ParquetRecordBatchReaderBuilder::build);
    let mut traces = Vec::new();
    for batch in reader.map_err(|e| broken(e.to_string()))? {
        let batch = batch.map_err(|e| broken(e.to_string()))?;
        let columns = Columns::of(&batch).map_err(broken)?;
        for row in 0..batch.num_rows() {
            columns
                .add(row, &mut traces, || Trace::new(model, n_layers as usize, Vec::new()))
                .map_err(broken)?;
        }
    }
    traces.iter_mut().try_for_each(|(trace, texts)| settle(trace, std::mem::take(texts))).map_err(broken)?;
    Ok(traces.into_iter().map(|(trace, _)| trace).collect())
}

/// Texts met so far, by id.
type Texts = std::collections::BTreeMap<u32, String>;

/// A batch's columns, found by name, of the right type.
struct Columns<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, String> {
        let expected = self::batch(&[]).map_err(|e| e.to_string())?.schema();
        let right = |field: &&Arc<arrow::datatypes::Field>| {
            batch.schema().field_with_name(field.name()).is_ok_and(|f| f.data_type() == field.data_type())
        };
        match expected.fields().iter().find(|field| !right(field)) {
            Some(field) => Err(format!("it has no column {} of type {}", field.name(), field.data_type())),
            None => Ok(Self { batch }),
        }
    }

    fn column(&self, name: &str) -> &'a dyn Array {
        self.batch.column_by_name(name).map_or(self.batch.column(0).as_ref(), AsRef::as_ref) // all were found by `of`
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str, row: usize) -> Option<T::Native> {
        let column = self.column(name);
        column.is_valid(row).then(|| column.as_primitive::<T>().value(row))
    }

    fn text(&self, name: &str, row: usize) -> String {
        self.column(name).as_string::<i32>().value(row).to_owned()
    }

    fn pairs(&self, ids: &str, probs: &str, row: usize) -> Result<Vec<(u32, f64)>, String> {
        let (i, p) =
            (self.column(ids).as_list::<i32>().value(row), self.column(probs).as_list::<i32>().value(row));
        if i.len() != p.len() || i.null_count() + p.null_count() > 0 {
            return Err(format!("row {row}: {} {ids} and {} {probs}", i.len(), p.len()));
        }
        let pairs = i.as_primitive::<UInt32Type>().values().iter().copied();
        Ok(pairs.zip(p.as_primitive::<Float64Type>().values().iter().copied()).collect())
    }

    /// Puts a row where it belongs; rows come in the order of [`write_traces`].
    fn add(
        &self,
        row: usize,
        traces: &mut Vec<(Trace, Texts)>,
        new: impl Fn() -> Trace,
    ) -> Result<(), String> {
        let int = |name: &str| self.number::<Int32Type>(name, row).map_or(usize::MAX, |x| x as usize);
        let (prompt, layer, pos, horizon) = (int("prompt"), int("layer"), int("pos"), int("horizon"));
        if prompt == traces.len() {
            traces.push((new(), Texts::new()));
        }
        if prompt + 1 != traces.len() {
            return Err(format!("row {row}: prompt {prompt} is out of order"));
        }
        let (trace, texts) = &mut traces[prompt];
        let lens = self.text("lens", row);
        if trace.lenses.last().is_none_or(|l| l.lens != lens || l.horizon != horizon) {
            trace.lenses.push(LensTrace { lens, horizon, layers: Vec::new(), cells: Vec::new() });
        }
        let first = trace.lenses.len() == 1;
        let place = trace.lenses.len() - 1;
        let lens = &mut trace.lenses[place];
        if lens.layers.last() != Some(&layer) {
            lens.layers.push(layer);
            lens.cells.push(Vec::new());
        }
        if first && lens.layers.len() == 1 {
            let id = self.number::<UInt32Type>("token_id", row).unwrap_or_default();
            trace.tokens.push(PromptToken { id, text: self.text("token", row) });
        }
        let cells = &mut lens.cells[lens.layers.len() - 1];
        if cells.len() != pos || pos >= trace.tokens.len() {
            return Err(format!("row {row}: position {pos} is out of order"));
        }
        cells.push(self.cell(row)?);
        let (ids, words) =
            (self.column("top_ids").as_list::<i32>(), self.column("top_tokens").as_list::<i32>());
        let (ids, words) = (ids.value(row), words.value(row));
        for (id, word) in
            ids.as_primitive::<UInt32Type>().values().iter().zip(words.as_string::<i32>().iter())
        {
            texts.entry(*id).or_insert_with(|| word.unwrap_or_default().to_owned());
        }
        Ok(())
    }

    fn cell(&self, row: usize) -> Result<Cell, String> {
        Ok(Cell {
            top: self.pairs("top_ids", "top_probs", row)?,
            entropy: self.number::<Float64Type>("entropy", row).unwrap_or(f64::NAN),
            kl: self.number::<Float64Type>("kl", row),
            ce: self.number::<Float64Type>("ce", row),
            rank_of_final: self.number::<Int64Type>("rank_of_final", row),
            rank_of_true: self.number::<Int64Type>("rank_of_true", row),
            tracked: self.pairs("tracked_ids", "tracked_probs", row)?,
        })
    }
}

/// Checks that every layer has every position, and fills in the vocabulary.
fn settle(trace: &mut Trace, mut texts: Texts) -> Result<(), String> {
    let n = trace.tokens.len();
    let short = |lens: &&LensTrace| lens.cells.iter().any(|cells| cells.len() != n);
    if let Some(lens) = trace.lenses.iter().find(short) {
        return Err(format!("lens {} has not {n} positions at every layer", lens.lens));
    }
    let ids = |pairs: &[(u32, f64)]| pairs.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    for lens in &trace.lenses {
        let other = |cell: &Cell, first: &Cell| ids(&cell.tracked) != ids(&first.tracked);
        let differ =
            |cells: &Vec<Cell>| cells.iter().zip(&lens.cells[0]).any(|(cell, first)| other(cell, first));
        if lens.cells.iter().any(differ) {
            return Err(format!("lens {} follows other tokens at another layer", lens.lens));
        }
    }
    for token in &trace.tokens {
        texts.entry(token.id).or_insert_with(|| token.text.clone());
    }
    trace.spell(|id| texts.get(&id).cloned().unwrap_or_else(|| format!("#{id}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trace(salt: u32) -> Trace {
        let tokens = [(5 + salt, "<script>"), (9, "\u{202e}漢")];
        let tokens = tokens.map(|(id, text)| PromptToken { id, text: text.into() }).to_vec();
        let cell = |layer: u32, pos: usize| Cell {
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
        manifest.write(dir.path()).unwrap();
        let traces = [trace(0), trace(1)];
        let first = write_traces(dir.path(), &traces).unwrap();
        assert_eq!(write_traces(dir.path(), &traces).unwrap(), first);
        assert_eq!(read_traces(dir.path()).unwrap(), traces);
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_traces(dir.path()), Err(RunError::Io { .. })));
        let mut manifest = Manifest::new("view");
        manifest.config = json!({ "n_layers": 4 });
        manifest.write(dir.path()).unwrap();
        crate::run::write_metrics(dir.path(), &[]).unwrap();
        fs::rename(dir.path().join(crate::run::METRICS), dir.path().join(TRAJECTORY)).unwrap();
        assert_eq!(read_traces(dir.path()).unwrap(), []); // no batch, no rows
        let short = Trace { tokens: trace(0).tokens[..1].to_vec(), ..trace(0) };
        let rows =
            rows(std::slice::from_ref(&short)).into_iter().filter(|row| row.pos == 0).collect::<Vec<_>>();
        let mut torn = rows;
        torn.remove(3);
        write_table(&dir.path().join(TRAJECTORY), &batch(&torn).unwrap()).unwrap();
        let message = read_traces(dir.path()).unwrap_err().to_string();
        assert!(!message.is_empty(), "{message}");
    }
}
