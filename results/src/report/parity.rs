//! Whether the model computes what its reference does: errors by layer, and the verdict for the other runs of a report.

use super::{
    Run,
    figure::{Figure, Heading, Rows, curves},
};
use crate::{
    page::parity,
    run::{MetricRow, RowKind},
};

/// The hooks with a line of their own; of the others the largest error of a layer is shown.
const HOOKS: [(&str, &str); 4] = [
    ("resid_pre", "residual stream"),
    ("attn_out", "attention's output"),
    ("mlp_out", "MLP's output"),
    ("logits", "logits"),
];

/// Errors by layer, beside the tolerance.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let rows = run.of(RowKind::Parity, "relative_error");
    let Some(first) = rows.first() else { return Vec::new() };
    let mut lines = Rows::default();
    for (hook, name) in HOOKS {
        rows.iter().filter(|r| r.hook == hook).for_each(|r| lines.add(name, r.clone()));
    }
    for row in largest(rows.iter().filter(|r| HOOKS.iter().all(|(hook, _)| r.hook != *hook))) {
        lines.add("the worst of all other hooks", row);
    }
    let tolerance = run.manifest.config.get("tolerance").and_then(serde_json::Value::as_f64);
    let level = |estimate| MetricRow { estimate, metric: "tolerance".into(), n: 0, ..first.clone() };
    lines.levels = tolerance.map(|t| ("tolerance".to_owned(), level(t))).into_iter().collect();
    let verdict = run.manifest.parity.as_ref().map_or_else(String::new, parity);
    let heading = Heading::new(
        "parity",
        "Largest error against the reference, by layer",
        format!("{verdict}. Logarithmic scale; where nothing differs there is no mark."),
    )
    .but_not("other prompts, number types or machines than the reference's.");
    vec![curves(run, heading, ("largest error / scale", true), &[lines])]
}

/// By layer the row with the largest estimate.
fn largest<'a>(rows: impl Iterator<Item = &'a MetricRow>) -> Vec<MetricRow> {
    let mut worst: Vec<MetricRow> = Vec::new();
    for row in rows {
        match worst.iter_mut().find(|w| w.layer == row.layer) {
            Some(w) if w.estimate < row.estimate => *w = row.clone(),
            Some(_) => (),
            None => worst.push(row.clone()),
        }
    }
    worst.sort_by_key(|row| row.layer);
    worst
}

/// Gives runs that did not check parity the verdict of the run that did it for the same model, number type and device.
pub(super) fn share(runs: &mut [Run]) {
    let same = |run: &Run| {
        let m = &run.manifest;
        m.model.as_ref().map(|model| (model.sha256.clone(), m.dtype.clone(), m.device.clone()))
    };
    let verdicts: Vec<_> = runs
        .iter()
        .filter(|run| run.manifest.kind == "verify")
        .filter_map(|run| Some((same(run)?, run.manifest.parity.clone()?)))
        .collect();
    for run in runs.iter_mut().filter(|run| run.manifest.parity.is_none()) {
        let own = same(run);
        run.manifest.parity =
            verdicts.iter().find(|(of, _)| Some(of) == own.as_ref()).map(|(_, verdict)| verdict.clone());
    }
}
