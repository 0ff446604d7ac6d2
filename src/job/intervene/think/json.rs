//! What was thought and found, for programs.

use serde_json::{Value, json};

use super::{Think, Thinking};
use crate::{job::shown, results::run::RowKind};

impl Think {
    /// Everything, for programs. Of one prompt `token_ids` and `generated` are at the top too.
    pub fn json(&self, thinking: Thinking) -> Value {
        let rows = &thinking.thoughts.rows;
        let effects = rows.iter().filter(|r| r.kind == RowKind::Replacement).map(|r| {
            json!({ "replacement": r.subject, "metric": r.metric, "unit": r.unit, "estimate": r.estimate,
                    "lower": r.lower, "upper": r.upper, "n_prompts": r.n_clusters })
        });
        let mut result = json!({
            "model": thinking.model,
            "settings": thinking.settings,
            "embedding_norm": thinking.thoughts.embeddings,
            "effects": effects.collect::<Vec<_>>(),
            "out": self.out.as_ref().map(shown),
            "rows": rows.len(),
        });
        if let [only] = &thinking.lines[..] {
            result["token_ids"] = only["token_ids"].clone();
            result["generated"] = only["generated"].clone();
        }
        result["prompts"] = Value::from(thinking.lines);
        result
    }
}
