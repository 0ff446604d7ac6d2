//! `patch --prompts`: numbers as means over sources.

use layerscope::{results::run::MetricRow, results::words::counted};

use crate::cli::{
    exit::Failure,
    numbers::{LEGEND, say_why_none, with_interval},
    output::Output,
    table::Table,
};

/// A row per layer.
pub(super) fn report(rows: &[MetricRow], sources: usize, output: Output) -> Result<(), Failure> {
    let metrics = ["precision_at_1", "surprisal", "kl"];
    let mut places: Vec<(Option<i32>, i32)> = rows.iter().map(|r| (r.source_layer, r.layer)).collect();
    places.dedup();
    let mut table = Table::new(["layer", "into"].into_iter().chain(metrics));
    for (from, to) in places.into_iter().rev() {
        let cell = |metric: &&str| {
            let own = |r: &&MetricRow| (r.source_layer, r.layer, r.metric.as_str()) == (from, to, *metric);
            rows.iter().find(own).map_or_else(String::new, with_interval)
        };
        let from = from.map_or_else(String::new, |layer| layer.to_string());
        table.row([from, to.to_string()].into_iter().chain(metrics.iter().map(cell)));
    }
    let title =
        format!("the target's first token against the model's own, mean over {}", counted(sources, "source"));
    output.print(format!("{title} ({LEGEND})\n{table}").trim_end())?;
    say_why_none(rows, output);
    Ok(())
}
