//! A text's logits: what every block brings on average, and the heads that bring most.

use std::fmt::Write as _;

use layerscope::{
    job::attribute::{Accumulated, Attribute, Attributed, Quantity, TargetToken},
    results::{
        run::{MetricRow, Parts, RowKind},
        words::counted,
    },
};

use super::quantity;
use crate::cli::{
    numbers::{LEGEND, with_interval},
    table::Table,
};

/// Layer by layer, then heads by the size of what they bring.
pub(super) fn tables(job: &Attribute, found: &Attributed) -> String {
    let answer = match (&job.answer, job.target.unwrap_or_default()) {
        _ if job.prompts.is_some() => "the answer".to_owned(),
        (Some(answer), _) => format!("{answer:?}"),
        (None, TargetToken::Label) => "the token that follows".to_owned(),
        (None, TargetToken::Top1) => "the likeliest token".to_owned(),
    };
    let of_prompts = (found.quantity == Quantity::Difference).then(|| "the foil".to_owned());
    let foil = job.foil.as_ref().map(|foil| format!("{foil:?}")).or(of_prompts);
    let what = quantity(found, &answer, foil.as_deref());
    let model = found.rows.iter().find(|r| r.kind == RowKind::Model);
    let n = model.map_or(0, |r| r.n);
    let mut text = format!(
        "{what}: {}, mean over {} ({LEGEND})\n{}",
        model.map_or_else(String::new, with_interval),
        counted(n, if job.prompts.is_some() { "prompt" } else { "token" }),
        layers(found, job.accumulated)
    );
    let heads = heads(found, job.top);
    if let Some(heads) = heads {
        let _ = write!(text, "\nheads that bring most, by the mean of its absolute value\n{heads}");
    }
    text.trim_end().to_owned()
}

/// The name of a row's component.
fn name(row: &MetricRow) -> &str {
    if let Parts::Component { component, .. } = row.subject.parts() { component } else { "" }
}

fn layers(found: &Attributed, how: Accumulated) -> Table {
    let (title, sums) = match how {
        Accumulated::Frozen => ("so far", "frozen"),
        Accumulated::Lens => ("lens", "lens"),
    };
    let find = |layer: usize, wanted: &str, metric: &str| {
        let own = |r: &&MetricRow| r.layer as usize == layer && r.metric == metric && name(r) == wanted;
        found.rows.iter().find(own).map_or_else(String::new, with_interval)
    };
    let mut table = Table::new(["layer", "outside", "attn", "mlp", title]);
    for (component, layer) in
        [("norm_bias", found.n_layers), ("head_bias", found.n_layers), ("embed", 0), ("pos_embed", 0)]
    {
        let brought = find(layer, component, "attribution");
        if !brought.is_empty() {
            table.row([component.to_owned(), brought]);
        }
    }
    table.row(["", "", "", "", &find(0, sums, "accumulated")]);
    for block in 0..found.n_layers {
        table.row([
            block.to_string(),
            String::new(),
            find(block, "attn", "attribution"),
            find(block, "mlp", "attribution"),
            find(block + 1, sums, "accumulated"),
        ]);
    }
    table
}

fn heads(found: &Attributed, most: usize) -> Option<Table> {
    let of = |metric: &str| {
        let own = |r: &&MetricRow| r.metric == metric && name(r) == "head";
        found.rows.iter().filter(own).collect::<Vec<_>>()
    };
    let mut all: Vec<(&MetricRow, &MetricRow)> =
        of("attribution").into_iter().zip(of("attribution_abs")).collect();
    all.sort_by(|(_, a), (_, b)| b.estimate.total_cmp(&a.estimate));
    all.truncate(most);
    if all.is_empty() {
        return None;
    }
    let mut table = Table::new(["layer", "head", "brings", "absolute"]);
    for (mean, absolute) in all {
        let Parts::Component { head: Some(head), .. } = mean.subject.parts() else { continue };
        table.row([mean.layer.to_string(), head.to_string(), with_interval(mean), with_interval(absolute)]);
    }
    Some(table)
}
