//! The numbers of lenses by layer, for programs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::results::run::MetricRow;

/// Per layer and lens the numbers that have no direction, for programs.
pub fn by_layer(rows: &[MetricRow]) -> Vec<Value> {
    let lens = |row: &&MetricRow| row.metric == "alignment";
    let mut lenses: Vec<&str> = Vec::new();
    for row in rows.iter().filter(lens) {
        if !lenses.contains(&row.subject.as_str()) {
            lenses.push(&row.subject);
        }
    }
    let layers: BTreeSet<i32> = rows.iter().map(|row| row.layer).collect();
    let numbers = |layer: i32, lens: &str| -> Map<String, Value> {
        let own = rows.iter().filter(|row| row.layer == layer && row.subject == lens);
        let number =
            |row: &MetricRow| json!({ "estimate": row.estimate, "lower": row.lower, "upper": row.upper });
        own.map(|row| (row.metric.clone(), number(row))).collect()
    };
    let of_layer = |layer: i32| -> Value {
        let lenses: Map<String, Value> =
            lenses.iter().map(|lens| ((*lens).to_owned(), Value::from(numbers(layer, lens)))).collect();
        json!({ "layer": layer, "lenses": lenses })
    };
    layers.into_iter().map(of_layer).collect()
}
