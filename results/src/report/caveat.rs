//! What a reader must know before believing a number.

use std::{collections::BTreeSet, fs};

use layerscope_probes::interval::{FEW, FEWEST};

use super::{Run, words};
use crate::{page, run::MetricRow, words::plural};

/// Something to be careful about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// The run, by name.
    pub run: String,
    /// One sentence.
    pub text: String,
    /// The metrics it is about; none: all of the run.
    pub metrics: Vec<String>,
}

/// All of a run.
pub(super) fn of(run: &Run) -> Vec<Caveat> {
    let rows = &run.rows;
    let mut texts = Vec::new();
    if !run.traces.is_empty() {
        texts.push("A prompt is an example: what holds for it need not hold for others.".to_owned());
    }
    texts.extend(parity(run));
    texts.extend(few_clusters(run, rows));
    texts.extend(unconverged(run));
    texts.extend(in_sample(rows));
    texts.extend(run.manifest.leakage.iter().filter(|one| one.leaks()).map(|one| format!("Leakage: {one}.")));
    let of_all = |text| Caveat { run: run.name.clone(), text, metrics: Vec::new() };
    texts.into_iter().map(of_all).chain(no_interval(run, rows)).collect()
}

/// Whether the model was held against its reference.
fn parity(run: &Run) -> Option<String> {
    run.manifest.model.as_ref()?;
    match &run.manifest.parity {
        None => Some(
            "Whether the model computes what its reference does was not checked: layerscope verify --out."
                .into(),
        ),
        Some(verdict) if verdict["verdict"] == "pass" => None,
        Some(verdict) => Some(format!("The model is not its reference's. {}.", page::parity(verdict))),
    }
}

fn few_clusters(run: &Run, rows: &[MetricRow]) -> Option<String> {
    let counted = |r: &&MetricRow| r.n_clusters > 0;
    let fewest = rows.iter().filter(counted).map(|r| r.n_eff).min_by(f64::total_cmp).filter(|n| *n < FEW)?;
    let (_, clusters) = words::counted(&run.manifest);
    let clusters = plural(clusters);
    Some(if fewest < FEWEST {
        format!(
            "Some numbers rest on {fewest:.1} effective {clusters}, fewer than {FEWEST}: nothing says how far they would carry over to \
             others, and they have no interval."
        )
    } else {
        format!(
            "Some numbers rest on {fewest:.1} effective {clusters}, fewer than {FEW}: their intervals are wide, and one unusual text \
             would move them."
        )
    })
}

/// Metrics that never have an interval although they are estimates.
fn no_interval(run: &Run, rows: &[MetricRow]) -> Option<Caveat> {
    if run.manifest.kind == "verify" {
        return None;
    }
    let with: BTreeSet<&str> = rows.iter().filter(|r| r.lower.is_some()).map(|r| r.metric.as_str()).collect();
    let none =
        rows.iter().filter(|r| r.unit != "flag").map(|r| r.metric.as_str()).filter(|m| !with.contains(m));
    let none: BTreeSet<&str> = none.collect();
    let names: Vec<&str> = none.into_iter().collect();
    let (text, metrics) = if with.is_empty() {
        ("No number has an interval.".into(), Vec::new())
    } else {
        (
            format!("Without an interval: {}.", names.join(", ")),
            names.iter().map(|m| (*m).to_owned()).collect(),
        )
    };
    (!names.is_empty()).then(|| Caveat { run: run.name.clone(), text, metrics })
}

/// Probes whose fit stopped before its tolerance, from the facts saved beside them.
fn unconverged(run: &Run) -> Option<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(run.path.join("probes")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let facts: Option<serde_json::Value> =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if facts.is_some_and(|f| f.get("converged") == Some(&serde_json::Value::Bool(false))) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    (!names.is_empty()).then(|| format!("Fits that did not reach their tolerance: {}.", names.join(", ")))
}

/// Residuals of the law that do not hold on other documents.
fn in_sample(rows: &[MetricRow]) -> Option<String> {
    let of = |metric: &str, layer: i32| {
        rows.iter()
            .find(|r| r.subject == "next" && r.metric == metric && r.layer == layer)
            .map(|r| r.estimate)
    };
    let gaps = rows.iter().filter(|r| r.subject == "next" && r.metric == "pr");
    let gap = gaps.filter_map(|r| Some(of("pr_held_out", r.layer)? - r.estimate)).fold(0.0, f64::max);
    (gap > 0.02).then(|| {
        format!("In-sample residuals of the law are lower than held-out ones by up to {gap:.3}: trust the held-out ones.")
    })
}
