//! `tokens.parquet`: what every lens says at every layer of every token, one row each.

use std::{io::Write, sync::Arc};

use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{LensCell, Reading};
use crate::states::States;

/// The file's name in the run directory.
pub const TOKENS: &str = "tokens.parquet";
/// Rows written together; so many are held.
const GROUP: usize = 1 << 17;

/// Writes as it goes; memory is one row group.
///
/// Columns: `doc_id`, `pos` (of the token the lens reads at), `token_id`, `subject`, `layer`, `horizon`, `entropy`,
/// `kl`, `top_id` and `top_prob` (the lens's first token), `final_id` (the model's) and `rank_of_final`, and where the
/// true token is known `true_id`, `ce`, `rank`, `surprisal`. Nats.
pub struct TokenTable<W: Write + Send> {
    file: Option<W>,
    writer: Option<ArrowWriter<W>>,
    /// Name of every lens.
    names: Vec<String>,
    /// Number of every point's layer, then the model's own.
    layers: Vec<usize>,
}

impl<W: Write + Send> TokenTable<W> {
    /// Into `file`. `names` are the lenses', `layers` the numbers of the layers read and then the model's own.
    pub fn new(file: W, names: Vec<String>, layers: Vec<usize>) -> Self {
        Self { file: Some(file), writer: None, names, layers }
    }

    /// Adds a cell's reading of `states`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, cell: &LensCell, states: &States, reading: &Reading) -> Result<(), ParquetError> {
        let batch = self.batch(cell, states, reading)?;
        if let Some(file) = self.file.take() {
            self.writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties()?))?);
        }
        match &mut self.writer {
            Some(writer) => writer.write(&batch),
            None => Err(ParquetError::General("the table was closed".into())),
        }
    }

    /// Writes what is held and the footer; an evaluation of no tokens has no table.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close(self) -> Result<(), ParquetError> {
        self.writer.map_or(Ok(()), |writer| writer.close().map(drop))
    }

    fn batch(&self, cell: &LensCell, states: &States, r: &Reading) -> Result<RecordBatch, ParquetError> {
        let n = r.rows.len();
        let name = cell.lens.map_or("model", |lens| self.names[lens].as_str());
        let known = |i: usize| r.known(i);
        let ids = |ids: &[i64]| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(ids.iter().map(|id| *id as u32)))
        };
        let numbers =
            |x: &[f64]| -> ArrayRef { Arc::new(Float32Array::from_iter_values(x.iter().map(|x| *x as f32))) };
        let some = |x: &[f64]| -> ArrayRef {
            Arc::new((0..n).map(|i| known(i).then_some(x[i] as f32)).collect::<Float32Array>())
        };
        let ints = |x: &[i64]| -> ArrayRef {
            Arc::new((0..n).map(|i| (x[i] >= 0).then_some(x[i] as i32)).collect::<Int32Array>())
        };
        let constant = |x: usize| -> ArrayRef { Arc::new(Int32Array::from(vec![x as i32; n])) };
        let truth = (0..n).map(|i| known(i).then_some(r.tokens[i] as u32));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("doc_id", Arc::new(UInt64Array::from_iter_values(r.rows.iter().map(|row| states.docs[*row])))),
            ("pos", Arc::new(UInt32Array::from_iter_values(r.rows.iter().map(|row| states.pos[*row])))),
            ("token_id", ids(&r.rows.iter().map(|row| states.ids[*row]).collect::<Vec<_>>())),
            ("subject", Arc::new(StringArray::from(vec![name; n]))),
            ("layer", constant(self.layers[cell.layer])),
            ("horizon", constant(cell.horizon)),
            ("entropy", numbers(&r.entropy)),
            ("kl", numbers(&r.kl)),
            ("top_id", ids(&r.top)),
            ("top_prob", numbers(&r.top_prob)),
            ("final_id", ids(&r.finals)),
            ("rank_of_final", ints(&r.rank_of_final)),
            ("true_id", Arc::new(truth.collect::<UInt32Array>())),
            ("ce", some(&r.ce)),
            ("rank", ints(&r.rank)),
            ("surprisal", some(&r.surprisal)),
        ];
        let nullable = ["true_id", "ce", "rank", "surprisal"];
        let fields = columns.into_iter().map(|(name, array)| (name, array, nullable.contains(&name)));
        Ok(RecordBatch::try_from_iter_with_nullable(fields)?)
    }
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    Ok(WriterProperties::builder().set_compression(zstd).set_max_row_group_row_count(Some(GROUP)).build())
}
