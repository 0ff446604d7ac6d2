//! Future lenses: a panel per horizon, with what looks at no state.

use std::collections::BTreeSet;

use super::{
    Run,
    figure::{Figure, Heading, Rows, curves},
    lens::{hooks, is_lens, named, of_methods},
    run::groups,
    words,
};
use crate::run::MetricRow;

/// One figure per metric that is there beyond the next token.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let groups = groups(&run.rows, |r| (r.metric.as_str(), r.unit.as_str()));
    for rows in &groups {
        let ahead = rows.iter().any(|r| is_lens(run, r) && r.horizon > 1);
        let (metric, unit) = (rows[0].metric.clone(), rows[0].unit.clone());
        if !ahead || unit == "bits/byte" {
            continue;
        }
        let own: Vec<MetricRow> = rows.iter().filter(|r| is_lens(run, r)).cloned().collect();
        // Lenses of the next token alone have figures of their own.
        let far: BTreeSet<String> =
            own.iter().filter(|r| r.horizon > 1).map(|r| r.subject.to_string()).collect();
        let own: Vec<MetricRow> = own.into_iter().filter(|r| far.contains(r.subject.as_str())).collect();
        let horizons: BTreeSet<i32> = own.iter().map(|r| r.horizon).collect();
        let hooks = hooks(&own);
        for hook in &hooks {
            let panel = |k: &i32| {
                let at = |r: &&MetricRow| r.horizon == *k && r.hook == *hook;
                let mut lines = Rows::by_subject(&own.iter().filter(at).cloned().collect::<Vec<_>>());
                lines.title = if *k == 1 { "next token".into() } else { format!("{k} tokens ahead") };
                let fixed = |r: &&MetricRow| r.horizon == *k && r.kind.is_level();
                lines.levels =
                    rows.iter().filter(fixed).map(|r| (r.subject.to_string(), r.clone())).collect();
                lines
            };
            let panels: Vec<Rows> = horizons.iter().map(panel).collect();
            let (title, label) = words::metric(&metric, &unit);
            let site = if hooks.len() > 1 { format!("-{hook}") } else { String::new() };
            let more = if panels.iter().any(|p| !p.levels.is_empty()) {
                "Dashed: without a lens; bigram is fed the token before the one to predict."
            } else {
                ""
            };
            let heading = Heading::new(
                format!("future-{}{site}", named(&rows[0], &groups)),
                format!("{title}, several tokens ahead"),
                more,
            );
            figures.push(curves(
                run,
                of_methods(run, heading),
                (&label, words::wants_log(&metric, &own)),
                &panels,
            ));
        }
    }
    figures
}
