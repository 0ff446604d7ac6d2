//! Reading `trajectory.parquet` back.

use std::{collections::BTreeMap, path::Path};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{ArrowPrimitiveType, FieldRef, Float64Type, Int32Type, Int64Type, SchemaRef, UInt32Type},
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{
    LensTrace, PromptToken, Trace, TraceCell,
    table::{TRAJECTORY, schema},
};
use crate::guard::quietly;
use crate::run::{Manifest, RunError, read_output};

/// Reads `RUN/trajectory.parquet` and what the manifest says of the model.
///
/// # Errors
/// When there is no such file, or it is not what [`super::write_traces`] writes.
pub fn read_traces(dir: &Path) -> Result<Vec<Trace>, RunError> {
    let path = dir.join(TRAJECTORY);
    let broken = |reason: String| RunError::BadMetrics { path: path.clone(), reason };
    let file = read_output(dir, TRAJECTORY)?;
    let config = Manifest::read(dir)?.map(|m| m.config).unwrap_or_default();
    let n_layers =
        config["n_layers"].as_u64().ok_or_else(|| broken("its manifest names no n_layers".into()))?;
    let model = config["model_name"].as_str().unwrap_or_default();
    // The library panics on some damaged files, and a folder from before there were checksums may hold one.
    let traces = quietly(|| traces_of(file, || Trace::new(model, n_layers as usize, Vec::new())));
    traces.unwrap_or_else(Err).map_err(broken)
}

fn traces_of(file: Vec<u8>, new: impl Fn() -> Trace) -> Result<Vec<Trace>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).map_err(|e| e.to_string())?;
    check(builder.schema())?;
    let mut traces = Vec::new();
    for batch in builder.build().map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let columns = Columns { batch: &batch };
        for row in 0..batch.num_rows() {
            columns.add(row, &mut traces, &new)?;
        }
    }
    traces.iter_mut().try_for_each(|(trace, texts)| settle(trace, std::mem::take(texts)))?;
    Ok(traces.into_iter().map(|(trace, _)| trace).collect())
}

/// Whether the columns are those of [`super::write_traces`]; more may stand beside them.
fn check(found: &SchemaRef) -> Result<(), String> {
    let expected = schema().map_err(|e| e.to_string())?;
    let right = |field: &&FieldRef| {
        found.field_with_name(field.name()).is_ok_and(|f| f.data_type() == field.data_type())
    };
    match expected.fields().iter().find(|field| !right(field)) {
        Some(field) => Err(format!("it has no column {} of type {}", field.name(), field.data_type())),
        None => Ok(()),
    }
}

/// Texts met so far, by id.
type Texts = BTreeMap<u32, String>;

/// A batch's columns, found by name, of the right type.
struct Columns<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn column(&self, name: &str) -> &'a dyn Array {
        self.batch.column_by_name(name).map_or(self.batch.column(0).as_ref(), AsRef::as_ref) // all were found by `check`
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

    /// Puts a row where it belongs; rows come in the order of [`super::write_traces`].
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

    fn cell(&self, row: usize) -> Result<TraceCell, String> {
        Ok(TraceCell {
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
        let other = |cell: &TraceCell, first: &TraceCell| ids(&cell.tracked) != ids(&first.tracked);
        let differ =
            |cells: &Vec<TraceCell>| cells.iter().zip(&lens.cells[0]).any(|(cell, first)| other(cell, first));
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
