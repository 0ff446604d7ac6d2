//! Export: stream a corpus through the model and write what chosen hooks saw, shard by shard.
//!
//! A shard is a fixed range of rows, so its content depends on nothing but the job: a run that was killed resumes at
//! the first shard that is not whole. Windows of one shard are batched by equal length; a window whose rows lie in
//! two shards runs twice.

use tch::{Device, Kind, Tensor};

use crate::{
    hook::{HookPoint, Selection, Tap, TapError},
    model::{Model, ModelError, Spec, width},
    sources::chat::TurnPositions,
    sources::text::{TextError, Tokenizer, Window, each_batch},
    states::store::{Column, Positions, ShardBuffer, StoreError, StoreWriter},
    watch::{Stopped, Underway},
};

/// An export that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The hook's value is not one row per token.
    #[error(
        "{0} is [batch, head, query, key], not one row per token, and cannot be exported; `attention` saves it, a file per window"
    )]
    NotRows(HookPoint),
    /// A text cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file cannot be written, or an activation is not finite.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
}

/// The columns an export of `points` has, in the order of the pass.
///
/// # Errors
/// When a point has no row per token.
pub fn columns(spec: &Spec, points: &Selection) -> Result<Vec<(HookPoint, Column)>, ExportError> {
    let column = |point: HookPoint| {
        let width = width(spec, point).ok_or(ExportError::NotRows(point))?.iter().product();
        let (hook, layer) = (point.short_name().to_owned(), point.layer(spec.n_layers) as u32);
        Ok((point, Column { hook, point: point.to_string(), layer, width }))
    };
    points.iter().map(column).collect()
}

/// What runs.
pub struct Export<'a> {
    /// The model.
    pub model: &'a Model,
    /// For the text of tokens.
    pub tokenizer: &'a Tokenizer,
    /// Hook points with their columns, as [`columns`] gives them and the writer's layout has them.
    pub points: &'a [(HookPoint, Column)],
    /// Which tokens become rows.
    pub positions: &'a Chosen,
    /// Most tokens in a batch.
    pub batch_tokens: usize,
}

/// A window and the rows it has in the shard at hand.
struct Part {
    window: Window,
    /// Places in the window, ascending.
    offsets: Vec<i64>,
    first_row: usize,
}

/// A token that becomes a row: its place in the window, its document and its place there.
pub type Row = (u32, u64, u32);

/// Which tokens become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// By their place in the document.
    Places(Positions),
    /// By role and turn.
    Turns(TurnPositions),
}

impl Chosen {
    /// Whether position `pos` of a document of `len` tokens is chosen.
    fn selects(&self, document: u64, pos: u32, len: u32) -> bool {
        match self {
            Self::Places(positions) => positions.selects(pos, len),
            Self::Turns(turns) => turns.selects(document, pos),
        }
    }
}

/// The tokens of a window that become rows, in order.
pub fn rows(window: &Window, positions: &Chosen) -> impl Iterator<Item = Row> {
    let all = window
        .segments
        .iter()
        .flat_map(|s| (0..s.len).map(move |i| (s.offset + i, s.doc_id, s.doc_pos + i, s.doc_len)));
    let chosen = all.filter(|&(_, doc, pos, len)| positions.selects(doc, pos, len));
    chosen.map(|(offset, doc, pos, _)| (offset, doc, pos))
}

/// The buffer of the shard at hand, and memory that is used again for every value.
struct Sink {
    buffer: ShardBuffer,
    scratch: Vec<f32>,
}

impl Export<'_> {
    /// Runs `windows` and writes every shard that is not whole yet; returns the number of rows. `stage` counts tokens,
    /// also those that an earlier run did.
    ///
    /// # Errors
    /// See [`ExportError`]; whole shards stay.
    pub fn run(
        &self,
        windows: &mut dyn Iterator<Item = Result<Window, TextError>>,
        writer: &mut StoreWriter,
        stage: &Underway<'_>,
    ) -> Result<u64, ExportError> {
        let mut sink = Sink { buffer: writer.buffer(), scratch: Vec::new() };
        let mut shard = Shard::default();
        let (mut row_id, shard_rows) = (0, writer.target().layout.shard_rows);
        for window in windows {
            let window = window?;
            let rows: Vec<Row> = rows(&window, self.positions).collect();
            shard.tokens += window.ids.len() as u64;
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let room = shard_rows - row_id % shard_rows;
                let (now, later) = rest.split_at(rest.len().min(room as usize));
                if !writer.is_done(shard.number) {
                    shard.add(&window, now, row_id, &mut sink.buffer)?;
                }
                row_id += now.len() as u64;
                rest = later;
                if row_id % shard_rows == 0 {
                    self.finish(&mut shard, &mut sink, writer, stage)?;
                }
            }
        }
        if row_id % shard_rows != 0 {
            self.finish(&mut shard, &mut sink, writer, stage)?;
        }
        stage.inc(shard.tokens);
        Ok(row_id)
    }

    /// Computes and writes one shard, unless it is whole already.
    fn finish(
        &self,
        shard: &mut Shard,
        sink: &mut Sink,
        writer: &mut StoreWriter,
        stage: &Underway<'_>,
    ) -> Result<(), ExportError> {
        if !writer.is_done(shard.number) {
            let windows: Vec<&Window> = shard.parts.iter().map(|p| &p.window).collect();
            // A window whose rows lie in two shards runs twice, and counts once.
            let mut left = shard.tokens;
            each_batch(&windows, self.batch_tokens, &stage.uncounted(), |batch| {
                let parts: Vec<&Part> = batch.places.iter().map(|&i| &shard.parts[i]).collect();
                self.run_batch(&batch.ids(), &parts, sink)?;
                let tokens = batch.tokens().min(left);
                left -= tokens;
                stage.inc(tokens);
                Ok::<_, ExportError>(())
            })?;
            shard.tokens = left;
            writer.write(shard.number, &mut sink.buffer, &|id| self.tokenizer.piece(id).text)?;
        }
        stage.inc(std::mem::take(&mut shard.tokens));
        *shard = Shard { number: shard.number + 1, ..Shard::default() };
        Ok(())
    }

    /// One forward pass over windows of equal length.
    fn run_batch(&self, ids: &Tensor, parts: &[&Part], sink: &mut Sink) -> Result<(), ExportError> {
        let seq = parts[0].window.ids.len();
        let flat =
            parts.iter().enumerate().flat_map(|(b, p)| p.offsets.iter().map(move |o| (b * seq) as i64 + o));
        let flat: Vec<i64> = flat.collect();
        let every = flat.len() == parts.len() * seq;
        let rows = (!every).then(|| Tensor::from_slice(&flat).to_device(self.model.device()));
        let mut tap = Recorder { points: self.points, parts, rows, sink, error: None };
        let ended = self.model.forward(ids, &mut tap);
        if let Some(error) = tap.error {
            return Err(error);
        }
        ended?;
        Ok(())
    }
}

/// The windows collected for the shard at hand.
#[derive(Default)]
struct Shard {
    number: u64,
    parts: Vec<Part>,
    /// Tokens read for this shard and not reported yet.
    tokens: u64,
}

impl Shard {
    fn add(
        &mut self,
        window: &Window,
        rows: &[Row],
        first_id: u64,
        buffer: &mut ShardBuffer,
    ) -> Result<(), StoreError> {
        let first_row = buffer.rows().len();
        for (row_id, &(offset, doc_id, pos)) in (first_id..).zip(rows) {
            buffer.push_row(row_id, doc_id, pos, window.ids[offset as usize])?;
        }
        let offsets = rows.iter().map(|r| i64::from(r.0)).collect();
        self.parts.push(Part { window: window.clone(), offsets, first_row });
        Ok(())
    }
}

/// The tap that copies chosen rows of every column into the shard buffer, and ends the pass after the last.
struct Recorder<'a> {
    points: &'a [(HookPoint, Column)],
    parts: &'a [&'a Part],
    /// Rows of the flattened batch; none: every row.
    rows: Option<Tensor>,
    sink: &'a mut Sink,
    error: Option<ExportError>,
}

impl Recorder<'_> {
    fn record(&mut self, column: usize, value: &Tensor) -> Result<(), ExportError> {
        let width = self.points[column].1.width;
        let flat = value.f_reshape([-1, width as i64]).map_err(ModelError::from)?;
        let chosen = match &self.rows {
            Some(rows) => flat.f_index_select(0, rows).map_err(ModelError::from)?,
            None => flat,
        };
        let chosen = chosen.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
        let Sink { buffer, scratch } = &mut *self.sink;
        scratch.resize(chosen.numel(), 0.0);
        chosen.f_copy_data(scratch, chosen.numel()).map_err(ModelError::from)?;
        let mut from = 0;
        for part in self.parts {
            let to = from + part.offsets.len() * width;
            buffer.put(column, part.first_row, &scratch[from..to])?;
            from = to;
        }
        Ok(())
    }
}

impl Tap for Recorder<'_> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        if let Some(column) = self.points.iter().position(|(p, _)| *p == point) {
            // The error of the store is kept with its type; the pass ends here.
            if let Err(error) = self.record(column, &value) {
                let line = error.to_string();
                self.error = Some(error);
                return Err(TapError::Other(line));
            }
        }
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.points.iter().any(|(p, _)| *p == point)
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.points.last().map(|(p, _)| *p)
    }
}

/// Matrix work of one token in FLOPs (two per multiply-add), without the head: `2 · parameters of the linear maps`
/// plus attention over `seq` keys on average half filled.
pub fn flops_per_token(spec: &Spec, seq: usize) -> u64 {
    let (d, q, kv) = (spec.d_model, spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head);
    let mlp = if spec.names.mlp.gated() { 3 } else { 2 } * d * spec.d_mlp;
    let linear = d * (q + 2 * kv) + q * d + mlp;
    let attention = q * seq; // q·k and pattern·v over seq / 2 keys each
    (2 * spec.n_layers * (linear + attention)) as u64
}

/// Whether `points` need the head.
pub fn needs_logits(points: &[(HookPoint, Column)]) -> bool {
    points.iter().any(|(p, _)| matches!(p, HookPoint::Logits))
}
