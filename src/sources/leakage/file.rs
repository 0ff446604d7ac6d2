//! `fitted_on.parquet`: the hashes, beside the lens or the probe.
//!
//! Columns: `what` (`document`, `run`), `hash`, `count` (documents with it). The rest is JSON under the schema's key
//! `layerscope`. The same documents give the same bytes.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array},
    datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type},
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};

use super::{
    Basis, FittedOn,
    fitted::{DOCUMENTS, RUNS},
    sample::Sample,
};
use crate::{
    results::run::{RunError, check_file, write_table},
    sources::text::guard::quietly,
};

/// The file's name.
pub const FITTED_ON: &str = "fitted_on.parquet";
/// The key of the facts in the schema.
const FACTS: &str = "layerscope";
/// Raised when hashes are made in another way.
const VERSION: u32 = 1;

/// What is no hash.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    version: u32,
    basis: Basis,
    /// Symbols of a run.
    run: usize,
    tokenizer: Option<String>,
    documents: u64,
    symbols: u64,
    /// One hash in 2^level is kept.
    document_level: u32,
    run_level: u32,
}

impl FittedOn {
    /// Writes `folder/fitted_on.parquet`, whole or not at all.
    ///
    /// # Errors
    /// [`RunError`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        let path = folder.join(FITTED_ON);
        let bad = |e: &dyn ToString| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
        let facts = serde_json::to_string(&self.facts()).map_err(|e| bad(&e))?;
        let (wholes, runs) = (self.wholes.sorted(), self.runs.sorted());
        let what = wholes.iter().map(|_| "document").chain(runs.iter().map(|_| "run"));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(what)),
            Arc::new(UInt64Array::from_iter_values(wholes.iter().chain(&runs).map(|(hash, _)| *hash))),
            Arc::new(UInt32Array::from_iter_values(wholes.iter().chain(&runs).map(|(_, count)| *count))),
        ];
        let schema = schema().with_metadata(HashMap::from([(FACTS.to_owned(), facts)]));
        let batch = RecordBatch::try_new(Arc::new(schema), columns).map_err(|e| bad(&e))?;
        write_table(&path, &batch)?;
        Ok(())
    }

    /// Reads `folder/fitted_on.parquet`; none where there is no such file, as beside what is older than it.
    ///
    /// # Errors
    /// [`RunError::Damaged`] when it is not what the fit wrote, [`RunError::BadMetrics`] when it is something else.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunError> {
        let path = folder.join(FITTED_ON);
        if !path.exists() {
            return Ok(None);
        }
        check_file(&path)?;
        let content = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
        let read = quietly(|| parse(content)).unwrap_or_else(Err);
        read.map(Some).map_err(|reason| RunError::BadMetrics { path, reason })
    }

    fn facts(&self) -> Facts {
        Facts {
            version: VERSION,
            basis: self.basis,
            run: self.basis.run(),
            tokenizer: self.tokenizer.clone(),
            documents: self.documents,
            symbols: self.symbols,
            document_level: self.wholes.level(),
            run_level: self.runs.level(),
        }
    }
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("what", DataType::Utf8, false),
        Field::new("hash", DataType::UInt64, false),
        Field::new("count", DataType::UInt32, false),
    ])
}

fn parse(content: Vec<u8>) -> Result<FittedOn, String> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content)).map_err(|e| e.to_string())?;
    if builder.schema().fields() != schema().fields() {
        return Err("it has other columns than what, hash and count".into());
    }
    let facts = builder.schema().metadata().get(FACTS).ok_or("it does not say how its hashes were made")?;
    let facts: Facts = serde_json::from_str(facts).map_err(|e| e.to_string())?;
    if (facts.version, facts.run) != (VERSION, facts.basis.run()) {
        return Err(format!(
            "its hashes are of version {} and runs of {}, not {VERSION} and {}",
            facts.version,
            facts.run,
            facts.basis.run()
        ));
    }
    let (mut wholes, mut runs) = (HashMap::new(), HashMap::new());
    for batch in builder.build().map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let what = batch.column(0).as_string::<i32>();
        let hash = batch.column(1).as_primitive::<UInt64Type>();
        let count = batch.column(2).as_primitive::<UInt32Type>();
        for row in 0..batch.num_rows() {
            let into = if what.value(row) == "document" { &mut wholes } else { &mut runs };
            into.insert(hash.value(row), count.value(row));
        }
    }
    Ok(FittedOn {
        basis: facts.basis,
        tokenizer: facts.tokenizer,
        documents: facts.documents,
        symbols: facts.symbols,
        wholes: Sample::of(DOCUMENTS, facts.document_level, wholes),
        runs: Sample::of(RUNS, facts.run_level, runs),
    })
}
