//! How numbers with their intervals are printed.

use std::collections::BTreeMap;

pub(crate) use layerscope::results::run::{LEGEND, with_interval};
use layerscope::{probes::interval::FEWEST, results::run::MetricRow};

use super::output::Output;

/// Says which numbers have no interval for want of documents, and what gives them one.
pub(crate) fn say_why_none(rows: &[MetricRow], output: Output) {
    let few = |r: &&MetricRow| r.lower.is_none() && r.n_clusters > 0 && r.n_eff < FEWEST;
    let few: Vec<&MetricRow> = rows.iter().filter(few).collect();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    few.iter()
        .filter_map(|r| r.reason.as_deref())
        .for_each(|reason| *reasons.entry(reason).or_default() += 1);
    // One line however many there are: the most frequent reason stands for all.
    if let Some((reason, _)) = reasons.iter().max_by_key(|(_, n)| **n) {
        output.note(format!("without an interval: {} of {} numbers ({reason})", few.len(), rows.len()));
    }
}

/// As [`say_why_none`], of a command that can take windows for documents.
pub(crate) fn hint_clusters(rows: &[MetricRow], output: Output) {
    say_why_none(rows, output);
    // Numbers of two halves count a document of each.
    if rows.iter().all(|r| r.n_eff < 1.001) {
        output.note("one document gives no interval; --cluster window takes windows instead");
    }
}
