//! What an export will do, and what it costs.

use serde_json::{Value, json};

use super::Export;
use crate::{
    hook::{HookPoint, Selection},
    job::{JobError, Session, SetTo, Source, Watch, counts},
    model::{hook_points, width},
    results::{run::Counts, words::counted},
    sources::text::{WindowOptions, open_windows, turn_positions},
    states::{
        export::{self, Chosen, ExportError, flops_per_token, needs_logits},
        store::{Column, Layout, Plan, choose_shard_rows},
    },
};

/// Everything decided before weights are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What is exported, and the column that it becomes.
    pub points: Vec<(HookPoint, Column)>,
    /// Which tokens.
    pub chosen: Chosen,
    /// How the files are laid out.
    pub layout: Layout,
    /// How the text is cut.
    pub windows: WindowOptions,
    /// Most tokens in a batch.
    pub batch_tokens: usize,
    /// What is read and written.
    pub counts: Counts,
    /// What is put in front of documents and why.
    pub lead: String,
    /// Shards, and their size on disk and in memory.
    pub size: Plan,
}

/// What an export needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Matrix work of the whole export, FLOPs.
    pub flops: u64,
    /// Weights, the states of one batch and the shard being filled, bytes; an estimate.
    pub memory_bytes: u64,
}

impl Export {
    /// The columns asked for.
    pub(super) fn points(&self, session: &Session) -> Result<Vec<(HookPoint, Column)>, JobError> {
        let layers = self.layers.as_ref().map(|l| l.0.as_slice());
        let selection =
            Selection::new(&self.hooks, layers, &hook_points(&session.spec)).map_err(JobError::usage)?;
        // A glob such as `*` means what can be exported; a hook named outright must be.
        let rows = |p: &HookPoint| width(&session.spec, *p).is_some();
        let named = self.hooks.iter().any(|h| h.contains("pattern") || h.contains("attn_scores"));
        let selection = if named { selection } else { selection.iter().filter(rows).collect() };
        export::columns(&session.spec, &selection).map_err(JobError::usage)
    }

    /// Counts tokens and rows (a pass over the text without the model) and decides the layout.
    pub(super) fn plan(
        &self,
        source: &Source<'_>,
        points: Vec<(HookPoint, Column)>,
        watch: &dyn Watch,
    ) -> Result<Planned, JobError> {
        let windows = source.window_options(&self.text)?;
        let chosen = self.chosen(source)?;
        let (counts, lead) = self.count(source, &windows, &chosen, watch)?;
        let columns: Vec<_> = points.iter().map(|(_, column)| column.clone()).collect();
        let shard_rows = choose_shard_rows(&columns, self.act_dtype, self.shard_mb.get() << 20);
        let layout = Layout {
            columns,
            dtype: self.act_dtype,
            format: self.format,
            shard_rows,
            planned_rows: Some(counts.rows),
        };
        let size = Plan::new(&layout, counts.rows);
        let batch_tokens = source.session.batch_tokens(self.batch_tokens);
        Ok(Planned { points, chosen, layout, windows, batch_tokens, counts, lead, size })
    }

    /// Which tokens become rows; by role and turn, the chats are read for it.
    fn chosen(&self, source: &Source<'_>) -> Result<Chosen, JobError> {
        let Some(selector) = self.positions.turns() else {
            return Ok(Chosen::Places(self.positions.clone()));
        };
        let (corpus, pack) = (source.inputs.corpus()?, self.text.pack);
        Ok(Chosen::Turns(turn_positions(corpus, &source.tokenizer, selector, pack)?))
    }

    /// What is in the text, and what is put in front of its documents and why.
    fn count(
        &self,
        source: &Source<'_>,
        windows: &WindowOptions,
        chosen: &Chosen,
        watch: &dyn Watch,
    ) -> Result<(Counts, String), JobError> {
        let mut stream =
            open_windows(source.inputs.corpus()?, &source.tokenizer, windows).map_err(JobError::usage)?;
        let stage = watch.begin("counting", "tokens", self.text.tokens);
        let mut rows = 0;
        for window in stream.by_ref() {
            stage.go_on().map_err(ExportError::from)?;
            let window = window?;
            rows += export::rows(&window, chosen).count() as u64;
            stage.inc(window.ids.len() as u64);
        }
        let stats = stream.stats();
        if rows == 0 {
            return Err(JobError::usage(format!(
                "{} selects no token of {}",
                SetTo("positions", &self.positions),
                counted(stats.documents, "document")
            )));
        }
        Ok((counts(stats, rows), stream.reason().to_owned()))
    }
}

impl Planned {
    /// A dry run, for programs.
    pub fn json(&self, cost: Cost) -> Value {
        json!({
            "dry_run": true,
            "documents": self.counts.documents,
            "tokens": self.counts.tokens,
            "rows": self.counts.rows,
            "columns": self.layout.columns,
            "flops": cost.flops,
            "memory_bytes": cost.memory_bytes,
            "disk_bytes": self.size.disk_bytes,
            "shards": self.size.shards,
        })
    }

    /// What it costs to run.
    pub(super) fn cost(&self, session: &Session) -> Cost {
        Cost { flops: self.flops(session), memory_bytes: self.memory(session) }
    }

    fn flops(&self, session: &Session) -> u64 {
        let head = if needs_logits(&self.points) { 2 * session.spec.vocab * session.spec.d_model } else { 0 };
        let per_token = flops_per_token(&session.spec, self.windows.seq_len) + head as u64;
        self.counts.tokens.saturating_mul(per_token)
    }

    fn memory(&self, session: &Session) -> u64 {
        let s = &session.spec;
        let size = session.kind.elt_size_in_bytes();
        let mlp = s.d_mlp * if s.names.mlp.gated() { 3 } else { 2 };
        let per_token = 6 * s.d_model + (2 * s.n_heads + 2 * s.n_kv_heads) * s.d_head + mlp;
        let logits = if needs_logits(&self.points) { s.vocab } else { 0 };
        let batch = self.batch_tokens.max(self.windows.seq_len) * (per_token + logits) * size;
        session.parameters * size as u64 + batch as u64 + self.size.buffer_bytes
    }
}
