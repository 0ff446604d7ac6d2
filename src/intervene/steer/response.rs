//! Whether the response grows in proportion to the strength.

use super::{
    Direction, Setting,
    measure::{DIFFERENCE, WIDTH},
};
use crate::{
    results::run::{MetricRow, RowKind},
    results::statistics::{Estimate, Scores},
};

/// For every direction that is no control (these are pushed to one side only) and layer with two strengths or more:
/// slope (through the origin, where the model as it is lies) and Pearson's r of the response.
pub(super) fn lines(directions: &[Direction], settings: &[Setting], scores: &Scores) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    for (d, of) in directions.iter().enumerate().filter(|(_, of)| !of.random) {
        for layer in of.layers() {
            let mine = settings.iter().enumerate().filter(|(_, s)| s.direction == d && s.layer == layer);
            let mine: Vec<(usize, f64)> =
                mine.map(|(i, s)| ((i + 1) * WIDTH + DIFFERENCE, s.strength)).collect();
            if mine.len() < 2 {
                continue;
            }
            let points = |mean: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
                let own = mean(DIFFERENCE);
                mine.iter().map(|(column, strength)| (*strength, mean(*column) - own)).collect()
            };
            let row = |metric: &str, unit: &str, number: Estimate| MetricRow {
                subject: of.name.as_str().into(),
                kind: RowKind::Steer,
                hook: "resid_pre".into(),
                layer: layer as i32,
                ..MetricRow::of(metric, unit, number)
            };
            rows.push(row("response_slope", "nats", scores.contrast(|mean| slope(&points(mean)))));
            let r = scores.correlation(|mean| pearson(&points(mean)));
            if r.estimate.is_finite() {
                rows.push(row("response_pearson", "correlation", r));
            }
        }
    }
    rows
}

/// Of the least-squares line through the origin.
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let (xy, xx) = points.iter().fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + x * y, xx + x * x));
    xy / xx
}

/// Pearson's r of the points and the origin.
pub(super) fn pearson(points: &[(f64, f64)]) -> f64 {
    let all: Vec<(f64, f64)> = points.iter().copied().chain([(0.0, 0.0)]).collect();
    let n = all.len() as f64;
    let (mx, my) = all.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let dot = |f: fn(f64, f64) -> f64| all.iter().map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    dot(|x, y| x * y) / (dot(|x, _| x * x) * dot(|_, y| y * y)).sqrt()
}
