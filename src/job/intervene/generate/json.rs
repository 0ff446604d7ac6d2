//! What was said and measured, for programs.

use serde_json::{Value, json};

use super::{Generate, Generation};
use crate::{intervene::generate::Measured, job::shown};

impl Generate {
    /// Everything that was said and measured, for programs. Of one prompt `token_ids` and `generated` are at the top
    /// too. What was not measured has no `steps`.
    pub fn json(&self, found: &Generation, measured: &[Measured]) -> Value {
        let prompts = found.prompts.iter().enumerate().map(|(i, prompt)| {
            let mut prompt = json!(prompt);
            if let Some(m) = measured.get(i) {
                prompt["steps"] =
                    json!({ "entropy": m.entropy, "surprisal": m.surprisal, "ce": m.ce, "kl": m.kl });
            }
            prompt
        });
        let prompts: Vec<Value> = prompts.collect();
        let mut result = json!({
            "model": found.model,
            "unit": "nats",
            "edits": self.edit,
            "schedule": found.schedule,
            "out": self.out.as_ref().map(shown),
        });
        if let [only] = &prompts[..] {
            result["token_ids"] = only["token_ids"].clone();
            result["generated"] = only["generated"].clone();
        }
        result["prompts"] = Value::from(prompts);
        result
    }
}
