//! `trace --prompts`: effects as means over prompts.

use std::fmt::Write as _;

use layerscope::{
    intervene::patch::{MEASURES, Role},
    job::intervene::{ROUNDING, Trace},
    results::{
        run::{MetricRow, RowKind},
        words::counted,
    },
};

use crate::cli::{
    numbers::{LEGEND, with_interval},
    table::Table,
};

/// A table per hook and kind: layers from the top down, roles across.
pub(super) fn means(job: &Trace, rows: &[MetricRow], prompts: usize) -> String {
    let (metric, unit) = MEASURES[job.metric as usize];
    let run = |subject: &str| {
        let own = rows.iter().find(|r| r.subject == subject && r.metric == metric);
        own.map_or_else(String::new, with_interval)
    };
    let mut text = format!(
        "{metric}, mean over {} ({LEGEND}): clean {}, corrupted {} {unit}\neffect of a patch: 0 as corrupted, 1 as clean (0 alone: nothing is brought back there, whatever the prompts)\n",
        counted(prompts, "prompt"),
        run("clean"),
        run("corrupted")
    );
    for (hook, kind) in
        job.hooks().iter().flat_map(|hook| [RowKind::Patch, RowKind::Trace].map(|kind| (hook, kind)))
    {
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
                let nothing = |r: &MetricRow| r.reason.as_deref() == Some(ROUNDING);
                let shown = |r: &&MetricRow| if nothing(r) { "0".to_owned() } else { with_interval(r) };
                row.map_or_else(String::new, shown)
            };
            table.row(std::iter::once(layer.to_string()).chain(names.iter().map(cell)));
        }
        if !own.is_empty() {
            let what = if kind == RowKind::Trace { ", noise on the subject" } else { "" };
            let _ = write!(text, "\n{}{what}\n{table}", hook.short_name());
        }
    }
    text
}
