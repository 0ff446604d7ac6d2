//! Lens curves: one figure per metric, one line per lens.

use super::{
    Run,
    figure::{Figure, Heading, Rows, curves},
    run::groups,
    words,
};
use crate::run::{MetricRow, Parts};

/// Whether a row of `lens eval` or `future` is a lens's own number at a layer, rather than the model's or a baseline's.
pub(super) fn is_lens(run: &Run, row: &MetricRow) -> bool {
    ["lens eval", "future"].contains(&run.manifest.kind.as_str())
        && row.kind.is_read()
        && !one_of_several(run, row)
}

/// A fixed prompt of `future` whose mean over prompts is shown.
fn one_of_several(run: &Run, row: &MetricRow) -> bool {
    let one = matches!(row.subject.parts(), Parts::Variant { prompt: Some(_), variant: None, .. });
    run.manifest.kind == "future" && one
}

/// What figures of `future` do not show; those of `lens eval` have a script of their own on the page.
pub(super) fn of_methods(run: &Run, heading: Heading) -> Heading {
    if run.manifest.kind != "future" {
        return heading;
    }
    heading.but_not(
        "that all of it is in the state: prompts are fed the tokens between, and say as much of the next one as any text would. \
         What the state adds is the difference from a shuffled one.",
    )
}

/// Numbers over all layers, which stand at the last one.
pub(super) fn is_depth(metric: &str) -> bool {
    metric == "prediction_depth" || metric.starts_with("exit_")
}

/// One figure for every metric of the next token.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let groups = groups(&run.rows, |r| (r.metric.as_str(), r.unit.as_str()));
    for rows in &groups {
        let own: Vec<MetricRow> =
            rows.iter().filter(|r| is_lens(run, r) && r.horizon == 1).cloned().collect();
        let Some(first) = own.first() else { continue };
        if first.unit == "bits/byte" || is_depth(&first.metric) {
            continue;
        }
        let hooks = hooks(&own);
        for hook in &hooks {
            let own: Vec<MetricRow> = own.iter().filter(|r| r.hook == *hook).cloned().collect();
            let mut lines = Rows::by_subject(&own);
            let fixed = rows.iter().filter(|r| r.kind.is_level() && r.horizon == 1);
            lines.levels = fixed.map(|r| (r.subject.to_string(), r.clone())).collect();
            let (title, label) = words::metric(&first.metric, &first.unit);
            let site = if hooks.len() > 1 { format!("-{hook}") } else { String::new() };
            let log = words::wants_log(&first.metric, &own);
            let more = match (log, lines.levels.is_empty()) {
                (true, _) => "Logarithmic scale. Dashed: without a lens.",
                (false, true) => "",
                (false, false) => "Dashed: without a lens.",
            };
            let name = format!("lens-{}{site}", named(first, &groups));
            let heading = of_methods(run, Heading::new(name, format!("{title}, by layer"), more));
            figures.push(curves(run, heading, (&label, log), &[lines]));
        }
    }
    figures
}

/// The metric in the name of a file, with the unit where it has two.
pub(super) fn named(row: &MetricRow, groups: &[Vec<MetricRow>]) -> String {
    let other = |r: &MetricRow| r.metric == row.metric && r.unit != row.unit && r.unit != "bits/byte";
    let several = groups.iter().filter_map(|rows| rows.first()).any(other);
    if several { format!("{}-{}", row.metric, row.unit) } else { row.metric.clone() }
}

/// The hooks of rows, in order.
pub(super) fn hooks(rows: &[MetricRow]) -> Vec<String> {
    let mut hooks: Vec<String> = Vec::new();
    for row in rows {
        if !hooks.contains(&row.hook) {
            hooks.push(row.hook.clone());
        }
    }
    hooks
}
