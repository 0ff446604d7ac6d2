//! The map of one pair of prompts, and means over several, for programs.

use serde_json::{Value, json};

use super::Pair;
use crate::{
    intervene::patch::{MEASURES, Map},
    results::run::MetricRow,
    sources::text::Tokenizer,
};

/// All measures: the two runs, and effects `[layer][position]` by hook and measure. Tokens are text, without the
/// table's marks.
pub(super) fn json(pair: &Pair, tokenizer: &Tokenizer) -> Value {
    let Pair { prompts, levels, maps, .. } = pair;
    let piece = |id: i64| tokenizer.piece(id as u32).whole();
    let tokens = |ids: &[i64]| ids.iter().map(|id| piece(*id)).collect::<Vec<_>>();
    let effects = |map: &Map, m: usize| -> Vec<Value> {
        let layer = |(layer, values): &(usize, Vec<[f64; 3]>)| json!({ "layer": layer, "effects": values.iter().map(|v| levels.effect(m, v[m])).collect::<Vec<_>>() });
        map.layers.iter().map(layer).collect()
    };
    let map = |map: &Map| {
        let by: serde_json::Map<String, Value> = MEASURES
            .iter()
            .enumerate()
            .map(|(m, (name, _))| ((*name).to_owned(), json!(effects(map, m))))
            .collect();
        json!({ "hook": map.hook.short_name(), "metrics": by })
    };
    let level = |values: &[f64; 3]| -> serde_json::Map<String, Value> {
        MEASURES.iter().zip(values).map(|((name, _), v)| ((*name).to_owned(), json!(v))).collect()
    };
    json!({
        "tokens": tokens(&prompts.clean),
        "token_ids": prompts.clean,
        "corrupted_tokens": tokens(&prompts.corrupted),
        "corrupted_token_ids": prompts.corrupted,
        "subject_positions": prompts.subject,
        "answer": { "token_id": levels.answer, "token": piece(levels.answer) },
        "foil": { "token_id": levels.foil, "token": piece(levels.foil) },
        "clean": level(&levels.clean),
        "corrupted": level(&levels.corrupted),
        "maps": maps.iter().map(map).collect::<Vec<_>>(),
    })
}

/// A mean over prompts.
pub(super) fn mean(row: &MetricRow) -> Value {
    json!({
        "subject": row.subject, "hook": row.hook, "layer": row.layer, "metric": row.metric, "unit": row.unit,
        "estimate": row.estimate, "lower": row.lower, "upper": row.upper, "n": row.n, "reason": row.reason,
    })
}
