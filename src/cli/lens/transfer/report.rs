//! What `lens transfer` says.

use std::path::Path;

use layerscope::{
    lens::transfer::{Sharing, Transfer},
    results::run::MetricRow,
};
use serde_json::json;

use super::{
    super::super::{
        exit::Failure,
        numbers::hint_clusters,
        output::{Output, shown},
        table::Table,
    },
    Readers, folder_of,
};

/// Prints the matrix and the verdict.
pub(super) fn show(out: &Path, rows: &[MetricRow], words: &str, output: Output) -> Result<(), Failure> {
    output.print(&matrix(rows))?;
    output.print(words)?;
    hint_clusters(rows, output);
    output.wrote(out, "both penalties, KL, agreement, corrections, geometry");
    output.result(json!({ "out": shown(out), "rows": rows.len(), "verdict": words }))?;
    Ok(())
}

/// How well each shared lens does, with its control.
pub(super) fn sharing(transfer: &mut Transfer<'_>, readers: &Readers) -> Vec<Sharing> {
    readers
        .shared
        .iter()
        .map(|&place| {
            let (layers, score) = transfer.sharing(place);
            let name = readers.others[place].name().to_owned();
            let same = |(folder, _): &&(String, usize)| *folder == folder_of(&name);
            let rotated = readers.rotated.iter().find(same).map(|(_, rotated)| *rotated);
            let control =
                rotated.map(|rotated| (transfer.sharing(rotated).1, transfer.index(place, rotated)));
            Sharing { name, score, layers, control }
        })
        .collect()
}

/// How far the CE of the lens and its twin are apart, on average over layers.
pub(super) fn twin(readers: &Readers, rows: &[MetricRow]) -> Option<f64> {
    readers.twin.map(|place| {
        let name = readers.others[place].name();
        let kl: Vec<f64> = rows
            .iter()
            .filter(|r| r.subject == name && r.kind == "reader" && r.metric == "ce")
            .filter_map(|r| {
                let own = |o: &&MetricRow| {
                    o.kind == "transfer"
                        && o.metric == "ce"
                        && o.layer == r.layer
                        && o.source_layer == Some(r.layer)
                };
                Some((r.estimate - rows.iter().find(own)?.estimate).abs())
            })
            .collect();
        kl.iter().sum::<f64>() / kl.len().max(1) as f64
    })
}

/// `penalty_state` by lens layer (rows) and state layer (columns).
fn matrix(rows: &[MetricRow]) -> String {
    let of = |r: &&MetricRow| r.kind == "transfer" && r.metric == "penalty_state";
    let mut layers: Vec<i32> = rows.iter().filter(of).map(|r| r.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut table =
        Table::new(std::iter::once("lens\\state".to_owned()).chain(layers.iter().map(ToString::to_string)));
    for &i in &layers {
        let cell = |j: &i32| {
            let same = |r: &&MetricRow| of(r) && r.layer == *j && r.source_layer == Some(i);
            rows.iter().find(same).map_or_else(String::new, |r| format!("{:.3}", r.estimate))
        };
        table.row(std::iter::once(i.to_string()).chain(layers.iter().map(cell)));
    }
    format!("penalty_state = CE[lens i, state j] - CE[lens j, state j], nats\n{table}")
}
