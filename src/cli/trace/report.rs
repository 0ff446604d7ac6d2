//! The maps of one pair of prompts: rows, tables, JSON.

use std::fmt::Write as _;

use layerscope::{
    intervene::patch::{Levels, MEASURES, Map},
    results::run::MetricRow,
    results::statistics::Estimate,
    sources::text::Tokenizer,
};
use serde_json::{Value, json};

use super::{super::table::Table, Trace, case::Prompts};

impl Trace {
    /// The two runs as subjects `clean` and `corrupted`, and per position a subject `POS:TOKEN` with its effects.
    pub(super) fn rows(
        levels: &Levels,
        maps: &[Map],
        (tokens, kind): (&[String], &str),
        samples: i64,
        n_layers: usize,
    ) -> Vec<MetricRow> {
        let row =
            |subject: &str, kind: &str, hook: &str, layer: usize, metric: &str, unit: &str, estimate: f64| {
                let one = Estimate::alone(estimate, "one prompt", samples as u64);
                MetricRow {
                    subject: subject.to_owned(),
                    kind: kind.to_owned(),
                    hook: hook.to_owned(),
                    layer: layer as i32,
                    ..MetricRow::of(metric, unit, one)
                }
            };
        let mut rows = Vec::new();
        for (m, (metric, unit)) in MEASURES.iter().enumerate() {
            for (subject, values) in [("clean", &levels.clean), ("corrupted", &levels.corrupted)] {
                rows.push(row(subject, "model", "resid_pre", n_layers, metric, unit, values[m]));
            }
            for map in maps {
                for (layer, values) in &map.layers {
                    for (place, value) in values.iter().enumerate() {
                        let Some(effect) = levels.effect(m, value[m]) else { continue };
                        let subject = format!("{place}:{}", tokens[place]);
                        rows.push(row(
                            &subject,
                            kind,
                            map.hook.short_name(),
                            *layer,
                            metric,
                            "effect",
                            effect,
                        ));
                    }
                }
            }
        }
        rows
    }

    /// A map per hook: layers from the top down, positions across.
    pub(super) fn table(
        &self,
        levels: &Levels,
        maps: &[Map],
        tokens: &[String],
        piece: &dyn Fn(i64) -> String,
    ) -> String {
        let m = self.metric as usize;
        let (metric, unit) = MEASURES[m];
        let mut text = format!(
            "{metric} of {:?} against {:?}: clean {:.4}, corrupted {:.4} {unit}\neffect of a patch: 0 as corrupted, 1 as clean\n",
            piece(levels.answer),
            piece(levels.foil),
            levels.clean[m],
            levels.corrupted[m]
        );
        if levels.effect(m, 0.0).is_none() {
            return text + "the two runs do not differ in this: nothing to patch";
        }
        for map in maps {
            let headers = tokens.iter().enumerate().map(|(i, t)| format!("{i}:{t}"));
            let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
            for (layer, values) in map.layers.iter().rev() {
                let cell = |v: &[f64; 3]| {
                    levels
                        .effect(m, v[m])
                        .map_or_else(String::new, |e| format!("{:.2}", if e.abs() < 0.005 { 0.0 } else { e }))
                };
                table.row([layer.to_string()].into_iter().chain(values.iter().map(cell)));
            }
            let _ = write!(text, "\n{}\n{table}", map.hook.short_name());
        }
        text.trim_end().to_owned()
    }
}

/// All measures: the two runs, and effects `[layer][position]` by hook and measure. Tokens are text, without the table's marks.
pub(super) fn json(levels: &Levels, maps: &[Map], prompts: &Prompts, tokenizer: &Tokenizer) -> Value {
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
