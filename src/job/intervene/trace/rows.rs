//! Effects as rows: by position of one pair of prompts, by what a position is of many.

use super::Prompts;
use crate::{
    intervene::patch::{Levels, MEASURES, Map, Role},
    results::{
        run::{MetricRow, Parts, RowKind, Subject},
        statistics::Estimate,
    },
};

/// The two runs as subjects `clean` and `corrupted`, and per position a subject `POS:TOKEN` with its effects.
pub(super) fn by_position(
    levels: &Levels,
    maps: &[Map],
    (tokens, kind): (&[String], RowKind),
    samples: i64,
    n_layers: usize,
) -> Vec<MetricRow> {
    let row = |subject: Subject,
               kind: RowKind,
               hook: &str,
               layer: usize,
               metric: &str,
               unit: &str,
               estimate: f64| {
        let one = Estimate::alone(estimate, "one prompt", samples as u64);
        MetricRow {
            subject,
            kind,
            hook: hook.to_owned(),
            layer: layer as i32,
            ..MetricRow::of(metric, unit, one)
        }
    };
    let mut rows = Vec::new();
    for (m, (metric, unit)) in MEASURES.iter().enumerate() {
        for (subject, values) in [("clean", &levels.clean), ("corrupted", &levels.corrupted)] {
            rows.push(row(subject.into(), RowKind::Model, "resid_pre", n_layers, metric, unit, values[m]));
        }
        for map in maps {
            for (layer, values) in &map.layers {
                for (place, value) in values.iter().enumerate() {
                    let Some(effect) = levels.effect(m, value[m]) else { continue };
                    let token = Parts::Token { position: place, token: tokens[place].clone() };
                    rows.push(row(
                        token.into(),
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

/// The two runs, and per role the mean over its positions.
pub(super) fn by_role(levels: &Levels, maps: &[Map], prompts: &Prompts, n_layers: usize) -> Vec<MetricRow> {
    let roles = Role::of(&prompts.clean, &prompts.corrupted, &prompts.subject);
    let row = |subject: Subject, kind: RowKind, metric: &str, unit: &str, estimate: f64| MetricRow {
        subject,
        kind,
        ..MetricRow::of(metric, unit, Estimate::alone(estimate, "one prompt", 1))
    };
    let mut rows = Vec::new();
    for (m, (metric, unit)) in MEASURES.iter().enumerate() {
        for (subject, values) in [("clean", &levels.clean), ("corrupted", &levels.corrupted)] {
            let row = row(subject.into(), RowKind::Model, metric, unit, values[m]);
            rows.push(MetricRow { hook: "resid_pre".into(), layer: n_layers as i32, ..row });
        }
        for (map, (layer, values)) in maps.iter().flat_map(|map| map.layers.iter().map(move |l| (map, l))) {
            for role in Role::ALL {
                let own = values.iter().zip(&roles).filter(|(_, r)| **r == role);
                let effects: Vec<f64> = own.filter_map(|(value, _)| levels.effect(m, value[m])).collect();
                if !effects.is_empty() {
                    let mean = effects.iter().sum::<f64>() / effects.len() as f64;
                    let row = row(role.to_string().into(), prompts.kind(), metric, "effect", mean);
                    rows.push(MetricRow { hook: map.hook.short_name().into(), layer: *layer as i32, ..row });
                }
            }
        }
    }
    rows
}
