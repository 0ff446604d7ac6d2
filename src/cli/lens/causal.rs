//! `lens causal`.

use std::{collections::BTreeSet, path::Path};

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        lens::{BASES, Causal, by_layer},
    },
    results::run::{Direction, MetricRow, Parts},
};
use serde_json::json;

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, hint_clusters, with_interval},
    output::{Output, shown},
    table::Table,
};

/// Remove the directions that a lens goes by from the model, and see whether the model goes by them too
///
/// One half of the documents gives the directions, mean states and other tokens' states; the other is measured on.
#[derive(Debug, Args)]
pub(crate) struct CausalArgs {
    #[command(flatten)]
    job: Causal,
    #[command(flatten)]
    output: OutputArgs,
}

impl CausalArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        show(&self.job.out, &found.rows, output)
    }
}

/// Prints the three tables, and what is where.
fn show(out: &Path, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
    print(rows, output)?;
    hint_clusters(rows, output);
    output.note(format!("{}: the directions", out.join(BASES).display()));
    output.wrote(out, "every direction's energy and effect");
    output.result(json!({ "out": shown(out), "rows": rows.len(), "layers": by_layer(rows) }))?;
    Ok(())
}

/// Prints the three tables.
pub(super) fn print(rows: &[MetricRow], output: Output) -> Result<(), Failure> {
    let found = Numbers(rows);
    output.print(&format!(
        "rank correlation (Spearman) of a direction's energy, KL(lens ‖ lens without it), with its effect, KL(model ‖ model without it) (over documents and directions; {LEGEND})\n{}",
        found.correlations()
    ))?;
    output.print(&format!(
        "nats, mean over a set of directions: of a lens the energy, of the model the effect\n{}",
        found.sizes()
    ))?;
    output.print(
        format!(
            "stimulus-response alignment (cosine) when the leading principal axes take other tokens' parts\n{}",
            found.alignments()
        )
        .trim_end(),
    )?;
    Ok(())
}

/// The rows, and where to find one.
struct Numbers<'a>(&'a [MetricRow]);

impl<'a> Numbers<'a> {
    fn find(&self, subject: &str, metric: &str, layer: i32) -> Option<&'a MetricRow> {
        self.0.iter().find(|r| r.subject == subject && r.metric == metric && r.layer == layer)
    }

    fn cell(&self, subject: &str, metric: &str, layer: i32) -> String {
        self.find(subject, metric, layer).map_or_else(String::new, with_interval)
    }

    fn layers(&self) -> BTreeSet<i32> {
        self.0.iter().map(|r| r.layer).collect()
    }

    /// Lenses in the order in which they first appear.
    fn lenses(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.0.iter().filter(|r| r.metric == "alignment") {
            if !names.contains(&row.subject.as_str()) {
                names.push(&row.subject);
            }
        }
        names
    }

    /// Sets of directions, those of all layers.
    fn sets(&self) -> Vec<&'a str> {
        let mut sets: Vec<&str> = Vec::new();
        for row in self.0.iter().filter(|r| r.metric == "effect") {
            if let Parts::Without { direction: Direction { set, number: None }, .. } = row.subject.parts()
                && !sets.contains(&set.as_str())
            {
                sets.push(set);
            }
        }
        sets
    }

    fn correlations(&self) -> Table {
        let mut table =
            Table::new(["layer", "lens", "own basis", "pca", "random", "all directions", "log-log slope"]);
        for layer in self.layers() {
            for lens in self.lenses() {
                let metrics = ["spearman", "spearman_pca", "spearman_random", "spearman_all", "loglog_slope"];
                let cells = metrics.map(|metric| self.cell(lens, metric, layer));
                if self.find(lens, "alignment", layer).is_some() {
                    table.row([layer.to_string(), lens.to_owned()].into_iter().chain(cells));
                }
            }
        }
        table
    }

    fn sizes(&self) -> Table {
        let (lenses, sets) = (self.lenses(), self.sets());
        let mut table = Table::new(["layer", "reader"].into_iter().chain(sets.iter().copied()));
        let number = |subject: &str, metric: &str, layer: i32| {
            self.find(subject, metric, layer).map_or_else(String::new, |r| format!("{:.4}", r.estimate))
        };
        for layer in self.layers() {
            let readers = lenses.iter().map(|lens| (*lens, "energy")).chain([("model", "effect")]);
            for (reader, metric) in readers {
                let cells: Vec<String> =
                    sets.iter().map(|set| number(&without(reader, set), metric, layer)).collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    table.row([layer.to_string(), reader.to_owned()].into_iter().chain(cells));
                }
            }
        }
        table
    }

    fn alignments(&self) -> Table {
        let lenses = self.lenses();
        let mut headers = vec!["layer".to_owned()];
        for lens in &lenses {
            headers.extend([(*lens).to_owned(), "shuffled".to_owned()]);
        }
        let others: Vec<&str> =
            lenses.iter().copied().filter(|l| self.0.iter().any(|r| gain(r, l))).collect();
        headers.extend(others.iter().map(|lens| format!("{lens} − logit")));
        let mut table = Table::new(headers);
        for layer in self.layers() {
            let mut cells = vec![layer.to_string()];
            for lens in &lenses {
                cells.extend(["alignment", "alignment_shuffled"].map(|m| self.cell(lens, m, layer)));
            }
            cells.extend(others.iter().map(|lens| self.cell(lens, "alignment_gain", layer)));
            table.row(cells);
        }
        table
    }
}

/// The subject of a set's mean.
fn without(reader: &str, set: &str) -> String {
    Parts::Without { of: reader.into(), direction: Direction { set: set.into(), number: None } }.to_string()
}

fn gain(row: &MetricRow, lens: &str) -> bool {
    row.subject == lens && row.metric == "alignment_gain"
}
