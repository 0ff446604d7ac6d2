//! What the target said, for programs.

use serde_json::{Value, json};

use super::{Answer, Patched};
use crate::{
    intervene::patch::{Inspected, Word},
    results::run::MetricRow,
    sources::text::TextError,
};

impl Patched {
    /// Everything that was said: of one source every answer, layers from the top down; of several the numbers.
    ///
    /// # Errors
    /// Tokens that spell no text.
    pub fn json(&self) -> Result<Value, TextError> {
        let Some((ids, positions, answers)) = &self.answers else {
            let rows: Vec<Value> = self.rows.iter().map(listed).collect();
            return Ok(json!({ "prompts": self.sources, "rows": rows }));
        };
        let mut all = Vec::new();
        for answer in answers.iter().rev() {
            for (inspected, position) in answer.inspected.iter().zip(positions) {
                all.push(self.line(answer, inspected, (*position, ids[*position as usize]))?);
            }
        }
        Ok(json!({ "answers": all, "rows": self.rows.len() }))
    }

    /// What was said when the state of one position stood in the target.
    fn line(
        &self,
        answer: &Answer,
        inspected: &Inspected,
        (position, id): (i64, i64),
    ) -> Result<Value, TextError> {
        let whole = |id: i64| self.tokenizer.piece(id as u32).whole();
        let ids: Vec<u32> = inspected.words.iter().map(|word| word.token as u32).collect();
        let word = |w: &Word| json!({ "token_id": w.token, "token": whole(w.token), "probability": w.probability, "relevance": w.relevance });
        Ok(json!({
            "layer": answer.layer, "target_layer": answer.target_layer, "position": position,
            "source_token": whole(id), "text": self.tokenizer.decode(&ids)?,
            "tokens": inspected.words.iter().map(word).collect::<Vec<_>>(),
        }))
    }
}

fn listed(row: &MetricRow) -> Value {
    json!({
        "target_layer": row.layer, "layer": row.source_layer, "metric": row.metric, "estimate": row.estimate,
        "lower": row.lower, "upper": row.upper, "n": row.n, "reason": row.reason,
    })
}
