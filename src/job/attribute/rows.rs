//! Attributions as rows of `metrics.parquet`.

use std::num::NonZeroUsize;

use super::{Asked, Quantity};
use crate::{
    attribution::{Attribution, Component, Mean, Of},
    results::{
        run::{MetricRow, Parts, RowKind, Subject},
        statistics::Estimate,
    },
};

/// What a component brought; under other names to the answer and the foil alone.
const METRICS_OF_ROWS: [&str; 3] = ["attribution", "attribution_answer", "attribution_foil"];
/// The unit of them all.
const UNIT: &str = "logits";
/// Metric of sums layer by layer.
const ACCUMULATED: &str = "accumulated";

/// The rows of a prompt: every component with MLPs whole, sums, the logit, and the `neurons` that brought most.
pub(super) fn of_prompt(asked: &Asked, quantity: Quantity, neurons: Option<NonZeroUsize>) -> Vec<MetricRow> {
    let (whole, n_layers) = (&asked.whole, asked.whole.n_layers);
    let mut rows = Vec::new();
    let number = |value: f64| Estimate::alone(value, "one prompt", 1);
    for (row, metric) in METRICS_OF_ROWS.iter().enumerate().take(whole.rows()) {
        let parts = whole.components.iter().zip(whole.row(row));
        let parts = parts.map(|(component, value)| (Of::Component(*component), *value));
        let attention = (0..n_layers).map(|block| (Of::Attention(block), of_attention(whole, row, block)));
        rows.extend(
            parts.chain(attention).map(|(of, value)| metric_row(of, metric, n_layers, number(value))),
        );
    }
    let most = neurons.map_or(0, NonZeroUsize::get);
    for neuron in asked.parts.largest(most, |component| component.neuron().is_some()) {
        let values = (0..whole.rows()).filter_map(|row| asked.parts.of(row, neuron));
        let named = METRICS_OF_ROWS.iter().zip(values);
        rows.extend(named.map(|(m, v)| metric_row(Of::Component(neuron), m, n_layers, number(v))));
    }
    let layers = whole.so_far(0).into_iter().enumerate().map(|(layer, sum)| (Of::SoFar(layer), sum));
    let stopped = whole.stopped(0).iter().enumerate().map(|(layer, value)| (Of::Stopped(layer), *value));
    rows.extend(layers.chain(stopped).map(|(of, v)| metric_row(of, ACCUMULATED, n_layers, number(v))));
    rows.push(metric_row(Of::Logit, quantity.metric(), n_layers, number(whole.logits[0])));
    if quantity != Quantity::Logit {
        let own = ["logit_answer", "logit_foil"].iter().zip(&whole.logits[1..]);
        rows.extend(own.map(|(metric, logit)| metric_row(Of::Logit, metric, n_layers, number(*logit))));
    }
    rows
}

/// The rows of a text.
pub(super) fn of_means(means: &[Mean], quantity: Quantity, n_layers: usize) -> Vec<MetricRow> {
    let row = |mean: &Mean| {
        let metric = match (mean.of, mean.absolute) {
            (Of::Component(_) | Of::Attention(_), false) => "attribution",
            (Of::Component(_) | Of::Attention(_), true) => "attribution_abs",
            (Of::SoFar(_) | Of::Stopped(_), _) => ACCUMULATED,
            (Of::Logit, _) => quantity.metric(),
        };
        metric_row(mean.of, metric, n_layers, mean.number)
    };
    means.iter().map(row).collect()
}

/// What all of a block's attention brought to a row.
fn of_attention(all: &Attribution, row: usize, block: usize) -> f64 {
    let own = all.components.iter().zip(all.row(row));
    own.filter(|(c, _)| c.is_attention() && c.block() == Some(block)).map(|(_, value)| value).sum()
}

fn metric_row(of: Of, metric: &str, n_layers: usize, number: Estimate) -> MetricRow {
    let (subject, kind, hook, layer) = match of {
        Of::Component(component) => {
            let part = matches!(
                component,
                Component::Neuron(..) | Component::MlpBias(_) | Component::MlpNormBias(_)
            );
            let kind = if part { RowKind::AttributionPart } else { RowKind::Attribution };
            let point = component.point();
            (subject(component), kind, point.short_name(), point.layer(n_layers))
        }
        Of::Attention(block) => (named("attn"), RowKind::AttributionSum, "attn_out", block),
        Of::SoFar(layer) => (named("frozen"), RowKind::AttributionSum, "resid_pre", layer),
        Of::Stopped(layer) => (named("lens"), RowKind::AttributionSum, "resid_pre", layer),
        Of::Logit => ("model".into(), RowKind::Model, "logits", n_layers),
    };
    let row = MetricRow::of(metric, UNIT, number);
    MetricRow { subject, kind, hook: hook.into(), layer: layer as i32, ..row }
}

fn subject(component: Component) -> Subject {
    Parts::Component {
        component: component.name().to_owned(),
        head: component.head(),
        neuron: component.neuron(),
    }
    .into()
}

/// Several components together.
fn named(name: &str) -> Subject {
    Parts::Component { component: name.to_owned(), head: None, neuron: None }.into()
}
