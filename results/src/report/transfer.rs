//! Transfer: every translator on every layer's states, how alike layers are, and other lenses on the same states.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Run,
    figure::{Figure, Heading, Matrix, Rows, curves, matrix},
    run::groups,
    words,
};
use crate::{
    figure::{Colours, Labels},
    run::{MetricRow, Parts, RowKind},
};

/// Drawn of a transfer; of corrected states only the first two.
const METRICS: [&str; 4] = ["penalty_state", "penalty_lens", "kl", "agreement"];
const GEOMETRY: [&str; 4] = ["cka", "covariance_cosine", "cosine", "procrustes_distance"];

/// Matrices of penalties, of likeness, and the readers' curves.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (kind, metrics) in [(RowKind::Transfer, &METRICS[..]), (RowKind::TransferCorrected, &METRICS[..2])] {
        for metric in metrics {
            let rows = run.of(kind, metric);
            for rows in groups(&rows, |r| r.subject.as_str()) {
                figures.push(penalties(run, metric, &rows));
            }
        }
    }
    for metric in GEOMETRY {
        let rows = run.of(RowKind::Geometry, metric);
        if !rows.is_empty() {
            figures.push(likeness(run, metric, &rows));
        }
    }
    figures.extend(readers(run));
    figures
}

fn penalties(run: &Run, metric: &str, rows: &[MetricRow]) -> Figure {
    let (title, label) = words::metric(metric, &rows[0].unit);
    let subject = &rows[0].subject;
    let correction = match subject.parts() {
        Parts::Corrected { correction, .. } => Some(correction),
        _ => None,
    };
    let site = correction.map_or_else(String::new, |name| format!("-{name}"));
    let more = format!(
        "Lens i = row, state j = column; lens: {subject}{}. Outlined: a layer's own lens.",
        if correction.is_some() { ", on states made to look like the lens's layer" } else { "" }
    );
    let heading = Heading::new(format!("transfer-{metric}{site}"), title, more);
    let place = |r: &MetricRow| (r.source_layer.unwrap_or(r.layer), r.layer);
    square(run, heading, rows, &place, (label, colours(rows)), ["lens of layer", "state of layer"])
}

fn likeness(run: &Run, metric: &str, rows: &[MetricRow]) -> Figure {
    let (title, label) = words::metric(metric, &rows[0].unit);
    let heading = Heading::new(format!("geometry-{metric}"), title, "Symmetric; no intervals.");
    let mirrored: Vec<MetricRow> = rows
        .iter()
        .flat_map(|r| {
            let swapped = r.source_layer.map(|source| MetricRow {
                layer: source,
                source_layer: Some(r.layer),
                ..r.clone()
            });
            std::iter::once(r.clone()).chain(swapped)
        })
        .collect();
    let place = |r: &MetricRow| (r.source_layer.unwrap_or(r.layer), r.layer);
    let mut figure =
        square(run, heading, &mirrored, &place, (label, Colours::Sequential), ["layer", "layer"]);
    figure.rows = rows.to_vec();
    figure
}

/// Zero-centred only where a good part is below zero.
fn colours(rows: &[MetricRow]) -> Colours {
    let (low, high) =
        rows.iter().fold((0f64, 0f64), |(low, high), r| (low.min(r.estimate), high.max(r.estimate)));
    if low < -0.1 * high { Colours::Diverging } else { Colours::Sequential }
}

/// A matrix over the layers of `rows`; `place` has row and column.
pub(super) fn square(
    run: &Run,
    heading: Heading,
    rows: &[MetricRow],
    place: &dyn Fn(&MetricRow) -> (i32, i32),
    (value_label, colours): (String, Colours),
    [row_label, column_label]: [&'static str; 2],
) -> Figure {
    let layers: BTreeSet<i32> = rows.iter().map(place).flat_map(|(i, j)| [i, j]).collect();
    let cells: BTreeMap<(i32, i32), &MetricRow> = rows.iter().map(|r| (place(r), r)).collect();
    let values =
        layers.iter().flat_map(|i| layers.iter().map(|j| cells.get(&(*i, *j)).map(|r| (*r).clone())));
    let values = values.collect();
    let labels = Labels::Layers(layers.iter().copied().collect());
    matrix(
        run,
        heading,
        Matrix {
            rows: labels.clone(),
            row_label,
            columns: labels,
            column_label,
            value_label,
            colours,
            values,
        },
    )
}

/// Other lenses on each layer's own state, with the diagonal of the matrix.
fn readers(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    for metric in ["kl", "agreement"] {
        let own = run.of(RowKind::Transfer, metric).into_iter().filter(|r| r.source_layer == Some(r.layer));
        let rows: Vec<MetricRow> = own.chain(run.of(RowKind::Reader, metric)).collect();
        if !rows.iter().any(|r| r.kind == RowKind::Reader) {
            continue;
        }
        let mut lines = Rows::by_subject(&rows);
        lines.levels =
            run.of(RowKind::Baseline, metric).into_iter().map(|r| (r.subject.to_string(), r)).collect();
        let (title, label) = words::metric(metric, &rows[0].unit);
        let log = words::wants_log(metric, &rows);
        let heading = Heading::new(
            format!("transfer-readers-{metric}"),
            format!("One lens for all layers? {title}, by layer"),
            if log { "Logarithmic scale." } else { "" },
        );
        figures.push(curves(run, heading, (&label, log), &[lines]));
    }
    figures
}
