//! `trace --prompts`: effects as means over prompts.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use layerscope::{
    intervene::patch::{Levels, MEASURES, Map, Role},
    results::run::{MetricRow, over},
    results::statistics::{Estimate, Intervals},
    results::words::counted,
    sources::text::Tokenizer,
};
use serde_json::{Value, json};

use super::{
    super::{
        exit::Failure,
        lines::Lines,
        numbers::{LEGEND, say_why_none, with_interval},
        output::Output,
        session::Session,
        table::Table,
    },
    Trace,
    case::{Case, Prompts},
    write,
};

impl Trace {
    /// The prompts of a file: means by what positions are.
    pub(super) fn many(
        &self,
        lines: &Lines<Case>,
        session: &Session,
        tokenizer: &Tokenizer,
        layers: &[usize],
        (stop, output): (&AtomicBool, Output),
    ) -> Result<(), Failure> {
        let all = lines.all.iter().map(|(place, case)| {
            case.check().and_then(|()| case.prompts(session, tokenizer)).map_err(|e| e.at(place))
        });
        let all: Vec<Prompts> = all.collect::<Result<_, Failure>>()?;
        session.announce(output);
        let claim = self.claim(session, tokenizer, layers, Some(&lines.sha256), output)?;
        let model = session.load(output)?;
        let bar = output.bar("patching", "prompts", Some(all.len() as u64));
        let mut each = Vec::new();
        for prompts in &all {
            let experiment = self.experiment(session, tokenizer, &model, prompts)?;
            let (levels, maps) = self.maps(&experiment, layers, &mut || stop.load(Ordering::Relaxed))?;
            each.push(by_role(&levels, &maps, prompts, session.spec.n_layers));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let rows = over(&each, Intervals::default())?;
        if let Some(claim) = claim {
            write(claim, &rows, (all.len(), all.iter().map(|p| p.clean.len()).sum()))?;
        }
        output.print(self.means(&rows, all.len()).trim_end())?;
        say_why_none(&rows, output);
        if let Some(out) = &self.out {
            output.wrote(out, "every mean of every measure");
        }
        output
            .result(json!({ "prompts": all.len(), "rows": rows.iter().map(listed).collect::<Vec<_>>() }))?;
        Ok(())
    }

    /// A table per hook and kind: layers from the top down, roles across.
    fn means(&self, rows: &[MetricRow], prompts: usize) -> String {
        let (metric, unit) = MEASURES[self.metric as usize];
        let run = |subject: &str| {
            let own = rows.iter().find(|r| r.subject == subject && r.metric == metric);
            own.map_or_else(String::new, with_interval)
        };
        let mut text = format!(
            "{metric}, mean over {} ({LEGEND}): clean {}, corrupted {} {unit}\neffect of a patch: 0 as corrupted, 1 as clean\n",
            counted(prompts, "prompt"),
            run("clean"),
            run("corrupted")
        );
        for (hook, kind) in self.hooks().iter().flat_map(|hook| ["patch", "trace"].map(|kind| (hook, kind))) {
            let own = |r: &&MetricRow| r.hook == hook.short_name() && r.kind == kind && r.metric == metric;
            let own: Vec<&MetricRow> = rows.iter().filter(own).collect();
            let mut layers: Vec<i32> = own.iter().map(|r| r.layer).collect();
            layers.sort_unstable();
            layers.dedup();
            let names = Role::ALL.map(|role| role.to_string());
            let mut table = Table::new(std::iter::once("layer").chain(names.iter().map(String::as_str)));
            for layer in layers.iter().rev() {
                let cell = |role: &String| {
                    let row = own.iter().find(|r| r.layer == *layer && r.subject == *role);
                    // What rounding leaves of no effect has no sign.
                    let estimate = |r: &MetricRow| if r.estimate.abs() < 0.0005 { 0.0 } else { r.estimate };
                    let plain = |r: &&MetricRow| MetricRow { estimate: estimate(r), ..(*r).clone() };
                    row.map_or_else(String::new, |r| with_interval(&plain(r)))
                };
                table.row(std::iter::once(layer.to_string()).chain(names.iter().map(cell)));
            }
            if !own.is_empty() {
                let what = if kind == "trace" { ", noise on the subject" } else { "" };
                let _ = write!(text, "\n{}{what}\n{table}", hook.short_name());
            }
        }
        text
    }
}

impl Case {
    /// One way of corruption, as on the command line.
    fn check(&self) -> Result<(), Failure> {
        match (&self.corrupted, &self.subject) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(Failure::usage(anyhow!("a prompt needs `corrupted` or `subject`, one of them"))),
        }
    }
}

/// The two runs, and per role the mean over its positions.
fn by_role(levels: &Levels, maps: &[Map], prompts: &Prompts, n_layers: usize) -> Vec<MetricRow> {
    let roles = Role::of(&prompts.clean, &prompts.corrupted, &prompts.subject);
    let row = |subject: String, kind: &str, metric: &str, unit: &str, estimate: f64| MetricRow {
        subject,
        kind: kind.to_owned(),
        ..MetricRow::of(metric, unit, Estimate::alone(estimate, "one prompt", 1))
    };
    let mut rows = Vec::new();
    for (m, (metric, unit)) in MEASURES.iter().enumerate() {
        for (subject, values) in [("clean", &levels.clean), ("corrupted", &levels.corrupted)] {
            let row = row(subject.to_owned(), "model", metric, unit, values[m]);
            rows.push(MetricRow { hook: "resid_pre".into(), layer: n_layers as i32, ..row });
        }
        for (map, (layer, values)) in maps.iter().flat_map(|map| map.layers.iter().map(move |l| (map, l))) {
            for role in Role::ALL {
                let own = values.iter().zip(&roles).filter(|(_, r)| **r == role);
                let effects: Vec<f64> = own.filter_map(|(value, _)| levels.effect(m, value[m])).collect();
                if !effects.is_empty() {
                    let mean = effects.iter().sum::<f64>() / effects.len() as f64;
                    let row = row(role.to_string(), prompts.kind(), metric, "effect", mean);
                    rows.push(MetricRow { hook: map.hook.short_name().into(), layer: *layer as i32, ..row });
                }
            }
        }
    }
    rows
}

fn listed(row: &MetricRow) -> Value {
    json!({
        "subject": row.subject, "hook": row.hook, "layer": row.layer, "metric": row.metric, "unit": row.unit,
        "estimate": row.estimate, "lower": row.lower, "upper": row.upper, "n": row.n, "reason": row.reason,
    })
}
