//! What was found, for programs.

use serde_json::{Value, json};

use super::{Asked, Attributed, Says, Token};
use crate::{
    attribution::{Attribution, Component},
    results::run::MetricRow,
};

impl Attributed {
    /// Of a prompt its tokens, what was asked, and every component; of a text the means.
    pub fn json(&self) -> Value {
        match &self.asked {
            Some(asked) => self.of_prompt(asked),
            None => {
                json!({ "metric": self.quantity.metric(), "rows": self.rows.iter().map(mean).collect::<Vec<_>>() })
            }
        }
    }

    fn of_prompt(&self, asked: &Asked) -> Value {
        let Asked { tokens, position, answer, foil, parts, whole, says } = asked;
        let text = |token: &Token| token.text.clone().whole();
        let token = |token: &Token| json!({ "token_id": token.id, "token": text(token) });
        let part = |(place, of): (usize, &Component)| component(parts, place, *of);
        json!({
            "tokens": tokens.iter().map(text).collect::<Vec<_>>(),
            "token_ids": tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
            "position": position,
            "answer": token(answer),
            "foil": foil.as_ref().map(token),
            "metric": self.quantity.metric(),
            "soft_cap": self.soft_cap,
            "logits": parts.logits,
            "components": parts.components.iter().enumerate().map(part).collect::<Vec<_>>(),
            "words": says.iter().map(|(component, says)| words(*component, says)).collect::<Vec<_>>(),
            "accumulated": { "frozen": whole.so_far(0), "lens": whole.stopped(0) },
        })
    }
}

fn component(parts: &Attribution, place: usize, of: Component) -> Value {
    let value = |row: usize| (row < parts.rows()).then(|| parts.row(row)[place]);
    json!({
        "component": of.name(), "layer": of.block(), "head": of.head(), "neuron": of.neuron(),
        "attribution": value(0), "answer": value(1), "foil": value(2),
    })
}

fn words(of: Component, says: &Says) -> Value {
    let named = |all: &[(Token, f64)]| -> Vec<Value> {
        let one = |(token, value): &(Token, f64)| json!({ "token_id": token.id, "token": token.text.clone().whole(), "attribution": value });
        all.iter().map(one).collect()
    };
    json!({
        "component": of.name(), "layer": of.block(), "head": of.head(), "neuron": of.neuron(),
        "raised": named(&says.raised), "lowered": named(&says.lowered),
    })
}

fn mean(row: &MetricRow) -> Value {
    json!({
        "subject": row.subject, "kind": row.kind, "hook": row.hook, "layer": row.layer, "metric": row.metric,
        "estimate": row.estimate, "lower": row.lower, "upper": row.upper, "n": row.n, "reason": row.reason,
    })
}
