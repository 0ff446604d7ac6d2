//! What an export will do, and what it costs.

use layerscope::{
    hook::HookPoint,
    results::run::Counts,
    results::words::counted,
    sources::text::WindowOptions,
    states::export::{flops_per_token, needs_logits},
    states::store::{Column, Layout, Plan, Positions},
};
use serde_json::{Value, json};

use crate::cli::{output::human, session::Session};

/// Everything decided before weights are read.
pub(super) struct Job {
    pub(super) points: Vec<(HookPoint, Column)>,
    pub(super) layout: Layout,
    pub(super) windows: WindowOptions,
    pub(super) batch_tokens: usize,
    pub(super) counts: Counts,
    /// What is put in front of documents and why.
    pub(super) lead: String,
    pub(super) plan: Plan,
}

impl Job {
    /// Matrix work of the whole export, FLOPs.
    fn flops(&self, session: &Session) -> u64 {
        let head = if needs_logits(&self.points) { 2 * session.spec.vocab * session.spec.d_model } else { 0 };
        let per_token = flops_per_token(&session.spec, self.windows.seq_len) + head as u64;
        self.counts.tokens.saturating_mul(per_token)
    }

    /// Weights, the states of one batch and the shard being filled, bytes; an estimate.
    fn memory(&self, session: &Session) -> u64 {
        let s = &session.spec;
        let size = session.kind.elt_size_in_bytes();
        let mlp = s.d_mlp * if s.names.mlp.gated() { 3 } else { 2 };
        let per_token = 6 * s.d_model + (2 * s.n_heads + 2 * s.n_kv_heads) * s.d_head + mlp;
        let logits = if needs_logits(&self.points) { s.vocab } else { 0 };
        let batch = self.batch_tokens.max(self.windows.seq_len) * (per_token + logits) * size;
        session.parameters * size as u64 + batch as u64 + self.plan.buffer_bytes
    }

    /// For people.
    pub(super) fn describe(&self, session: &Session, positions: &Positions) -> String {
        let c = &self.counts;
        let (disk, memory) = (human(self.plan.disk_bytes, "B"), human(self.memory(session), "B"));
        [
            format!("documents  {} ({} empty)", c.documents, c.empty_documents),
            format!("tokens     {} ({})", c.tokens, self.lead),
            format!("rows       {} at positions {}", c.rows, positions),
            format!("columns    {}", self.points.len()),
            format!("compute    {}", human(self.flops(session), "FLOP")),
            format!("memory     about {memory} (weights, one batch, one shard)"),
            format!(
                "disk       at most {disk}, before compression, in {}",
                counted(self.plan.shards, "shard")
            ),
        ]
        .join("\n")
    }

    /// For machines.
    pub(super) fn object(&self, session: &Session) -> Value {
        json!({
            "dry_run": true,
            "documents": self.counts.documents,
            "tokens": self.counts.tokens,
            "rows": self.counts.rows,
            "columns": self.layout.columns,
            "flops": self.flops(session),
            "memory_bytes": self.memory(session),
            "disk_bytes": self.plan.disk_bytes,
            "shards": self.plan.shards,
        })
    }
}
