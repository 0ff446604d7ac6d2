//! The law of next-token prediction: residuals by layer on a logarithmic axis, with the line through them.

use layerscope_probes::Decay;

use super::{
    Run,
    figure::{FITTED, Figure, Heading, Rows, curves},
};
use crate::run::{MetricRow, Parts, RowKind};

const LABEL: &str = "prediction residual (share of variance)";

/// The law itself, and its controls.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let (pr, held) = (run.of(RowKind::Law, "pr"), run.of(RowKind::Law, "pr_held_out"));
    if pr.is_empty() {
        return Vec::new();
    }
    let of = |rows: &[MetricRow], subject: &str| -> Vec<MetricRow> {
        rows.iter().filter(|r| r.subject == subject).cloned().collect()
    };
    let mut lines = Rows::default();
    let (fitted, own) = (of(&pr, "next"), of(&held, "next"));
    let all = [
        ("in sample", fitted.clone()),
        ("exponential through layers 1 to L, in sample", line(&fitted)),
        ("held out", own.clone()),
        ("exponential through layers 1 to L, held out", line(&own)),
        ("held out, one regression for all layers", of(&held, "next:shared")),
    ];
    lines.lines = all
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(name, rows)| (name.to_owned(), rows))
        .collect();
    let law = |metric: &str| of(&run.of(RowKind::Law, metric), "next").first().map(|r| r.estimate);
    // Shuffled ids fall in as straight a line: what tells is the factor beside theirs, and not how straight it is.
    let (rho, less) = (law("law_rho_held_out"), law("law_rho_less_shuffled_held_out"));
    let found = rho.map_or_else(String::new, |rho| {
        let less = less.map_or_else(String::new, |less| format!(", {less:+.4} beside that of shuffled ids"));
        format!("Held out: factor {rho:.4} a layer{less}. ").replace('-', "−")
    });
    let heading = Heading::new(
        "law-next",
        "Law of next-token prediction: residual by layer",
        format!("{found}Logarithmic scale."),
    );
    let mut figures = vec![curves(run, heading, (LABEL, true), &[lines])];
    let own: Vec<MetricRow> = held.into_iter().filter(|r| *r.subject.parts() == Parts::Name).collect();
    if !own.is_empty() {
        let heading = Heading::new(
            "law-controls",
            "The law and its controls, held out: residual by layer",
            "Logarithmic scale. 1 is no better than the mean.",
        );
        figures.push(curves(run, heading, (LABEL, true), &[Rows::by_subject(&own)]));
    }
    figures
}

/// The least-squares line through the logarithms of layers 1 to L, as `probe law` fits it.
fn line(rows: &[MetricRow]) -> Vec<MetricRow> {
    let mut from_one: Vec<&MetricRow> = rows.iter().filter(|r| r.layer > 0).collect();
    from_one.sort_by_key(|r| r.layer);
    let layers: Vec<f64> = from_one.iter().map(|r| f64::from(r.layer)).collect();
    let pr: Vec<f64> = from_one.iter().map(|r| r.estimate).collect();
    let Ok(decay) = Decay::fit(&layers, &pr) else { return Vec::new() }; // fewer than three layers have no line
    let at = |r: &&MetricRow| MetricRow {
        metric: format!("{}{FITTED}", r.metric),
        estimate: 10f64.powf(decay.intercept + decay.slope * f64::from(r.layer)),
        lower: None,
        upper: None,
        ..(*r).clone()
    };
    from_one.iter().map(at).collect()
}
