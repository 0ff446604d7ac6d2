//! `attention`: layer by head, statistic by statistic; what the model loses without each head; one prompt's patterns.

use std::collections::BTreeMap;

use super::{
    Figure, Run,
    figure::{Heading, Matrix, matrix},
    words,
};
use crate::{
    figure::{Chart, Colours, Heatmap, Labels, Multiples},
    patterns::{HeadPattern, Patterns},
    run::{MetricRow, Parts, RowKind},
    show::show,
    words::counted,
};

/// What none of the figures shows.
const NOT: &str = "what a head does with what it looks at, or that the model needs it: weights of attention are not causes. \
    What is lost without a head is in the figure of ablations, where it was measured.";

/// What the figure of ablations does not show.
const NOT_ABLATED: &str = "heads that stand in for each other: without one of them the model may lose nothing. Zero and the mean are \
    both states that the model was not trained with.";

/// Drawn in this order; `TransformerLens`'s other scale of three of them is in the table of numbers alone.
const DRAWN: [&str; 8] = [
    "induction",
    "previous_token",
    "duplicate_token",
    "sink",
    "learned_sink",
    "attention_entropy",
    "attention_entropy_normalised",
    "distance",
];

/// Statistics whose first head is drawn large for a prompt.
const SHOWN_LARGE: [&str; 3] = ["induction", "previous_token", "duplicate_token"];

/// Grids of heads, and patterns.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let of = |metric: &str| grid(run, metric, &run.of(RowKind::Head, metric));
    let mut figures: Vec<Figure> = DRAWN.iter().filter_map(|metric| of(metric)).collect();
    figures.extend(ablations(run));
    if let Some(patterns) = &run.patterns {
        figures.push(overview(run, patterns));
        figures.extend(large(patterns, &run.rows).into_iter().map(|head| pattern(run, patterns, head)));
    }
    figures
}

/// A statistic, layer 0 at the bottom.
fn grid(run: &Run, metric: &str, rows: &[MetricRow]) -> Option<Figure> {
    let first = rows.first()?;
    let (title, label) = words::metric(metric, &first.unit);
    let heading =
        Heading::new(format!("heads-{metric}"), format!("{title}, by layer and head"), "").but_not(NOT);
    let colours = if first.unit == "share" { Colours::Over(0.0, 1.0) } else { Colours::Sequential };
    Some(by_head(run, heading, rows, (label, colours)))
}

/// The loss without each head, less the model's.
fn ablations(run: &Run) -> Option<Figure> {
    let rows: Vec<MetricRow> = run
        .of(RowKind::HeadAblation, "ce_increase")
        .into_iter()
        .filter(|row| matches!(row.subject.parts(), Parts::Head { .. }))
        .collect();
    let (title, label) = words::metric("ce_increase", &rows.first()?.unit);
    let change = run.manifest.config["ablate"].as_str().unwrap_or_default();
    let more = match change {
        "mean" => "In the place of a head stands what it gives on average over the text.",
        _ => "In the place of a head stands zero.",
    };
    let heading = Heading::new("heads-ablated", title, more).but_not(NOT_ABLATED);
    Some(by_head(run, heading, &rows, (label, Colours::Diverging)))
}

/// A matrix of layers, the first at the bottom, by heads.
fn by_head(
    run: &Run,
    heading: Heading,
    rows: &[MetricRow],
    (value_label, colours): (String, Colours),
) -> Figure {
    let head = |row: &MetricRow| match row.subject.parts() {
        Parts::Head { head, .. } => *head as i32,
        _ => 0,
    };
    let cells: BTreeMap<(i32, i32), &MetricRow> =
        rows.iter().map(|row| ((row.layer, head(row)), row)).collect();
    let mut layers: Vec<i32> = rows.iter().map(|row| row.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    layers.reverse();
    let most = rows.iter().map(head).max().unwrap_or(0);
    let places = layers.iter().flat_map(|layer| (0..=most).map(|head| (*layer, head)));
    let values = places.map(|place| cells.get(&place).map(|row| (*row).clone())).collect();
    let what = Matrix {
        // Names, so that the page too has the first at the bottom.
        rows: Labels::Names(layers.iter().map(i32::to_string).collect()),
        row_label: "layer",
        columns: Labels::Layers((0..=most).collect()),
        column_label: "head",
        value_label,
        colours,
        values,
    };
    matrix(run, heading, what)
}

/// Every head's pattern, small.
fn overview(run: &Run, patterns: &Patterns) -> Figure {
    let mut layers: Vec<usize> = patterns.heads.iter().map(|head| head.layer).collect();
    layers.dedup();
    let heads = patterns.heads.iter().map(|head| head.head + 1).max().unwrap_or(0);
    let n = patterns.tokens.len();
    let title = "Where every head looks".to_owned();
    let caption = format!(
        "{}. Prompt of {}. In each square a line is a token that looks, from the top, a column a token that is looked at; the darker, \
         the larger its share.",
        name_of_model(run),
        counted(n as u64, "token")
    );
    let chart = Multiples {
        title: title.clone(),
        caption: caption.clone(),
        rows: layers.iter().map(ToString::to_string).collect(),
        row_label: "layer".into(),
        columns: (0..heads).map(|head| head.to_string()).collect(),
        column_label: "head".into(),
        side: n,
        squares: patterns.heads.iter().map(|head| head.weights.clone()).collect(),
    };
    Figure { records: links(patterns), ..Figure::new(run, "patterns", title, caption, chart.scene()) }
}

/// The heads that stand first in a statistic of the prompt.
fn large<'p>(patterns: &'p Patterns, rows: &[MetricRow]) -> Vec<&'p HeadPattern> {
    let mut found: Vec<&HeadPattern> = Vec::new();
    for metric in SHOWN_LARGE {
        let own = rows.iter().filter(|row| row.kind == RowKind::Head && row.metric == metric);
        let Some(best) = own.max_by(|a, b| a.estimate.total_cmp(&b.estimate)) else { continue };
        let same = |head: &&HeadPattern| {
            let number = matches!(best.subject.parts(), Parts::Head { head: own, .. } if *own == head.head);
            number && head.layer as i32 == best.layer
        };
        found.extend(patterns.heads.iter().find(same));
    }
    let mut seen = Vec::new();
    found.retain(|head| {
        let new = !seen.contains(&head.label());
        seen.push(head.label());
        new
    });
    found
}

/// One head's pattern, with its tokens.
fn pattern(run: &Run, patterns: &Patterns, head: &HeadPattern) -> Figure {
    let n = patterns.tokens.len();
    let tokens: Vec<String> = patterns.tokens.iter().map(|token| show(token.text.as_bytes())).collect();
    let name = format!("pattern-{}", head.label());
    let heading = Heading::new(name, format!("Where {} looks", head.label()), "").but_not(NOT);
    let caption =
        format!("{}. Prompt of {}. A row sums to 1.", name_of_model(run), counted(n as u64, "token"));
    let values = head.weights.iter().enumerate().map(|(i, weight)| (i % n <= i / n).then_some(*weight));
    let chart = Heatmap {
        title: heading.title.clone(),
        caption: caption.clone(),
        rows: Labels::Names(tokens.clone()),
        row_label: "token that looks".into(),
        columns: Labels::Names(tokens),
        column_label: "token that is looked at".into(),
        values: values.collect(),
        colours: Colours::Over(0.0, 1.0),
        value_label: "share of attention".into(),
        cell: (34.0, 24.0),
        most: (900.0, 900.0),
        ..Heatmap::default()
    };
    let own = Patterns { tokens: patterns.tokens.clone(), heads: vec![head.clone()] };
    Figure { records: links(&own), ..Figure::of(run, heading, caption, Chart::Heatmap(chart), Vec::new()) }
}

fn name_of_model(run: &Run) -> String {
    let path = run.manifest.model.as_ref().map_or("", |model| model.path.trim_end_matches('/'));
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Every link, under a header.
fn links(patterns: &Patterns) -> Vec<Vec<String>> {
    let n = patterns.tokens.len();
    let header = ["layer", "head", "query", "key", "query_token", "key_token", "weight"];
    let row = |head: &HeadPattern, query: usize, key: usize| {
        vec![
            head.layer.to_string(),
            head.head.to_string(),
            query.to_string(),
            key.to_string(),
            patterns.tokens[query].text.clone(),
            patterns.tokens[key].text.clone(),
            head.weights[query * n + key].to_string(),
        ]
    };
    let of = |head| (0..n).flat_map(move |query| (0..=query).map(move |key| row(head, query, key)));
    std::iter::once(header.map(str::to_owned).to_vec()).chain(patterns.heads.iter().flat_map(of)).collect()
}
