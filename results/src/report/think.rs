//! Latent feedback: what the answer loses without its thoughts, and how far states and embeddings are one space.

use super::{
    Run,
    figure::{Along, Figure, Heading, Rows, curves},
    words,
};
use crate::run::{MetricRow, Parts, RowKind};

/// Below the figures of all thoughts.
const EXPLAINED: &str = "Mean: over prompts; other: another prompt's thoughts; random: vectors as long; greedy: embeddings of \
    the model's own tokens (plain decoding).";

/// What figures of thoughts do not show.
const NOT: &str = "whether thoughts help: no question here has a right answer.";

/// What figures of states and embeddings do not show.
const NOT_USED: &str = "whether the model can use a state as an embedding: see what becomes of the answer.";

/// The figures of `think`, of `think space` and of nothing else.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    match run.manifest.kind.as_str() {
        "think" => thoughts(run),
        "think space" => space(run),
        _ => Vec::new(),
    }
}

/// All thoughts replaced together, then one at a time.
fn thoughts(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let rows = &run.rows;
    for (metric, name, title, label) in [
        ("kl", "kl", "The answer's first token without its thoughts", "KL(true ‖ replaced), nats"),
        (
            "surprisal_increase",
            "surprisal",
            "What the answer costs without its thoughts",
            "more surprisal, nats",
        ),
    ] {
        let (mut all, mut names) = (Rows::default(), Vec::new());
        let mut each = ["the others as they were", "later ones thought anew"]
            .map(|title| Rows { title: title.into(), ..Rows::default() });
        for row in rows.iter().filter(|r| r.kind == RowKind::Replacement && r.metric == metric) {
            // Drawn, and in its CSV, where the replacement or the thought is.
            if let Parts::Step { of, step, anew } = row.subject.parts() {
                each[usize::from(*anew)].add(of, MetricRow { layer: *step as i32, ..row.clone() });
            } else {
                all.add(&row.subject, MetricRow { layer: names.len() as i32, ..row.clone() });
                names.push(row.subject.to_string());
            }
        }
        if !all.lines.is_empty() {
            let heading = Heading::new(format!("think-{name}"), format!("{title}: all replaced"), EXPLAINED);
            let heading = heading.along(Along::Placed("in place of all thoughts", names)).but_not(NOT);
            figures.push(curves(run, heading, (label, false), &[all]));
        }
        if !each[0].lines.is_empty() {
            let all: Vec<MetricRow> =
                each.iter().flat_map(|panel| &panel.lines).flat_map(|(_, rows)| rows).cloned().collect();
            let more = "The answer's first token is predicted at the last thought.";
            let heading = Heading::new(format!("think-{name}-each"), format!("{title}: one replaced"), more);
            let heading = heading.along(Along::Placed("thought", Vec::new())).but_not(NOT);
            figures.push(curves(run, heading, (label, words::wants_log(metric, &all)), &each));
        }
    }
    figures
}

/// Likeness to embeddings by layer, and shares of variance in their principal components.
fn space(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut rows = run.rows.clone();
    rows.retain(|r| r.hook == "resid_pre");
    let more = match run.manifest.config.get("tied").and_then(serde_json::Value::as_bool) {
        Some(true) => "The unembedding is tied to the embedding.",
        Some(false) => "The unembedding is a matrix of its own.",
        None => "",
    };
    for (metric, title, label) in [
        ("cka", "Linear CKA of states and token embeddings", "CKA"),
        (
            "procrustes_distance",
            "States and embeddings after the best rotation",
            "Procrustes distance (0 to 2)",
        ),
        ("cosine", "Cosine of states and token embeddings", "cosine"),
    ] {
        let mut lines = Rows::default();
        for row in rows.iter().filter(|r| r.metric == metric) {
            let name = if row.subject == "embedding" { "its own token" } else { "the next token" };
            lines.add(name, row.clone());
        }
        if !lines.lines.is_empty() {
            let heading = Heading::new(format!("think-space-{metric}"), title, more).but_not(NOT_USED);
            figures.push(curves(run, heading, (label, false), &[lines]));
        }
    }
    let mut panels: Vec<Rows> = Vec::new();
    for row in rows.into_iter().filter(|r| r.metric == "variance_share") {
        let Parts::Share { share, .. } = row.subject.parts() else { continue };
        let title = format!("components of {} % of the embeddings' variance", share * 100.0);
        let place = panels.iter().position(|p| p.title == title).unwrap_or_else(|| {
            panels.push(Rows { title, ..Rows::default() });
            panels.len() - 1
        });
        let name = if row.kind == RowKind::Space { "first components" } else { "random subspaces" };
        panels[place].add(name, row);
    }
    if !panels.is_empty() {
        let more = "Random subspaces have as many dimensions; their ribbon is the range of 20 draws.";
        let title = "The states' variance in the embedding matrix's first principal components";
        let heading = Heading::new("think-space-variance", title, more).but_not(NOT_USED);
        figures.push(curves(run, heading, ("share of variance", false), &panels));
    }
    figures
}
