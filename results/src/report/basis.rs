//! What `lens causal` found: energies beside effects, their rank correlation, and stimulus-response alignment.

use super::{
    Run,
    figure::{Figure, Heading, Rows, curves},
    words,
};
use crate::{
    figure::{Chart, Cloud, Scatter},
    run::MetricRow,
    run::{Direction, Parts, basis_name},
};

/// What none of the figures shows.
const NOT: &str = "why a direction matters, or that the model has no other use for it. Few directions are tried out of very many, \
    and a correlation of ten ranks moves much by chance.";

/// The figures of `lens causal` and of nothing else.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    if run.manifest.kind != "lens causal" {
        return Vec::new();
    }
    let rows = &run.rows;
    let mut figures = vec![correlations(run, rows), alignments(run, rows), effects(run, rows)];
    figures.retain(|figure| !figure.lines.is_empty());
    figures.extend(scatters(run, rows));
    figures
}

/// Spearman by layer: over a lens's own basis, and over all directions of the layer.
fn correlations(run: &Run, rows: &[MetricRow]) -> Figure {
    let panel = |(metric, title): (&str, &str)| {
        let own: Vec<MetricRow> = rows.iter().filter(|r| r.metric == metric).cloned().collect();
        Rows { title: title.into(), ..Rows::by_subject(&own) }
    };
    let panels: Vec<Rows> =
        [("spearman", "each lens's own basis"), ("spearman_all", "all directions of the layer")]
            .into_iter()
            .map(panel)
            .filter(|panel| !panel.lines.is_empty())
            .collect();
    let heading = Heading::new(
        "causal-spearman",
        "Does the model go by what the lens goes by? Rank correlation over directions",
        "Of what removing a direction does to the lens (energy) with what it does to the model (effect). Directions are fixed, documents resampled. At the last layer the logit lens is the model.",
    )
    .but_not(NOT);
    curves(run, heading, ("Spearman's rank correlation", false), &panels)
}

fn alignments(run: &Run, rows: &[MetricRow]) -> Figure {
    let mut lines = Rows::default();
    for row in rows {
        match row.metric.as_str() {
            "alignment" => lines.add(&row.subject, row.clone()),
            "alignment_shuffled" => lines.add(&format!("{}, another token's", row.subject), row.clone()),
            _ => {}
        }
    }
    let heading = Heading::new(
        "causal-alignment",
        "Stimulus-response alignment, by layer",
        "Weighted Aitchison cosine of how the lens's and the model's predictions move when the leading principal directions take another token's part; the control pairs the response with another token's stimulus.",
    )
    .but_not(NOT);
    curves(run, heading, ("cosine", false), &[lines])
}

/// What removing a direction does to the model, on average over each set of directions.
fn effects(run: &Run, rows: &[MetricRow]) -> Figure {
    let mut lines = Rows::default();
    for row in rows.iter().filter(|r| r.metric == "effect") {
        if let Parts::Without { direction: Direction { set, number: None }, .. } = row.subject.parts() {
            lines.add(set, row.clone());
        }
    }
    let log = lines.lines.iter().flat_map(|(_, rows)| rows).all(|r| r.estimate > 0.0);
    let heading = Heading::new(
        "causal-effect",
        "What removing one direction does to the model, by layer",
        "Mean over the directions of a set; principal and random directions are the controls.",
    )
    .but_not(NOT);
    curves(run, heading, ("KL(model ‖ model without it), nats", log), &[lines])
}

/// Energy and effect of every direction, a figure per lens and a panel per layer.
fn scatters(run: &Run, rows: &[MetricRow]) -> Vec<Figure> {
    let mut lenses: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|r| r.metric == "alignment") {
        if !lenses.contains(&row.subject.as_str()) {
            lenses.push(&row.subject);
        }
    }
    lenses.into_iter().map(|lens| scatter(run, rows, lens)).collect()
}

fn scatter(run: &Run, rows: &[MetricRow], lens: &str) -> Figure {
    let own = basis_name(lens);
    let (mut used, mut panels): (Vec<MetricRow>, Vec<(i32, Cloud)>) = (Vec::new(), Vec::new());
    for energy in rows.iter().filter(|r| r.metric == "energy") {
        let Parts::Without { of, direction } = energy.subject.parts() else { continue };
        if of != lens || direction.number.is_none() {
            continue;
        }
        let same = |r: &MetricRow| matches!(r.subject.parts(), Parts::Without { direction: other, .. } if other == direction);
        let effect = rows.iter().find(|r| r.metric == "effect" && r.layer == energy.layer && same(r));
        let Some(effect) = effect else { continue };
        let name = if direction.set == own { "own basis" } else { &direction.set };
        if panels.last().is_none_or(|(layer, _)| *layer != energy.layer) {
            panels
                .push((energy.layer, Cloud { title: format!("layer {}", energy.layer), ..Cloud::default() }));
        }
        let Some((_, cloud)) = panels.last_mut() else { continue };
        let point = (energy.estimate, effect.estimate);
        match cloud.series.iter_mut().find(|(other, _)| other == name) {
            Some((_, points)) => points.push(point),
            None => cloud.series.push((name.to_owned(), vec![point])),
        }
        used.extend([energy.clone(), effect.clone()]);
    }
    let heading = Heading::new(
        format!("causal-scatter-{lens}"),
        format!("{lens}: what a direction does to the lens, and to the model"),
        "A point is a direction removed at that layer; on the broken line it does as much to both. Logarithmic; what is not positive is left out.",
    )
    .but_not(NOT);
    let caption = words::caption(run, &used, &heading.more);
    let chart = Scatter {
        title: heading.title.clone(),
        caption: caption.clone(),
        x_label: "energy, nats".into(),
        y_label: "effect on the model, nats".into(),
        panels: panels.into_iter().map(|(_, cloud)| cloud).collect(),
    };
    Figure::of(run, heading, caption, Chart::Scatter(chart), used)
}
