//! `metrics.parquet` as it stands in the page: the words once per series, the numbers of a row in typed arrays.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::encode::{doubles, indices, integers};
use crate::run::MetricRow;

/// What the rows of a series have in common.
type Series<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, i32, i64, i64);

/// `{series: [[subject, kind, hook, metric, unit, horizon, n, n_clusters]…], of, layer, source, estimate, lower, upper}`,
/// the arrays in the file's order of rows.
pub(super) fn encode(rows: &[MetricRow]) -> Value {
    let mut series: Vec<Series<'_>> = Vec::new();
    let mut places: HashMap<Series<'_>, u32> = HashMap::new();
    let mut of = Vec::with_capacity(rows.len());
    for row in rows {
        let words: Series<'_> = (
            &row.subject,
            row.kind.as_str(),
            &row.hook,
            &row.metric,
            &row.unit,
            row.horizon,
            row.n,
            row.n_clusters,
        );
        let place = *places.entry(words).or_insert_with(|| {
            series.push(words);
            series.len() as u32 - 1
        });
        of.push(place);
    }
    json!({
        "series": series,
        "of": indices(&of),
        "layer": integers(rows.iter().map(|r| Some(r.layer))),
        "source": integers(rows.iter().map(|r| r.source_layer)),
        "estimate": doubles(rows.iter().map(|r| Some(r.estimate))),
        "lower": doubles(rows.iter().map(|r| r.lower)),
        "upper": doubles(rows.iter().map(|r| r.upper)),
    })
}
