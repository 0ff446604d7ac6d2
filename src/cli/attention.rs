//! `attention`.

use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        attention::{Attended, Attention},
    },
    results::{
        patterns::Patterns,
        run::{MetricRow, Parts, RowKind},
        show::show,
    },
};
use serde_json::json;

use super::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, hint_clusters, with_interval},
    output::{Output, shown},
    table::Table,
};

/// Heads shown of a statistic, and links of a head.
const FIRST: usize = 4;
/// Sets shown of those without which the model is worst.
const WORST: usize = 15;
/// What the first table shows, and whether the smallest numbers tell most.
const SHOWN: [(&str, &str, bool); 6] = [
    ("induction", "induction", false),
    ("previous_token", "previous token", false),
    ("duplicate_token", "duplicate token", false),
    ("sink", "sink (first token)", false),
    ("attention_entropy_normalised", "entropy, lowest", true),
    ("distance", "distance, tokens", false),
];

/// Measure what attention heads look at, and what the model loses without them
#[derive(Debug, Args)]
pub(crate) struct AttentionArgs {
    #[command(flatten)]
    job: Attention,
    #[command(flatten)]
    output: OutputArgs,
}

impl AttentionArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let Attended { rows, patterns } = self.job.run(&output)?;
        let mut text = match &patterns {
            Some(patterns) => links(patterns),
            None => statistics(&rows),
        };
        if rows.iter().any(|row| row.kind == RowKind::HeadAblation) {
            let _ = write!(text, "\n{}", ablations(&rows));
        }
        output.print(text.trim_end())?;
        if patterns.is_none() {
            hint_clusters(&rows, output);
        }
        output.wrote(&self.job.out, "every head, with intervals");
        output.result(json!({ "out": shown(&self.job.out), "rows": rows.len() }))?;
        Ok(())
    }
}

/// `L5H1`, or a set of heads under its own name.
fn name(row: &MetricRow) -> String {
    match row.subject.parts() {
        Parts::Head { head, .. } => format!("L{}H{head}", row.layer),
        Parts::Variant { of, .. } => of.clone(),
        _ => row.subject.to_string(),
    }
}

/// The heads that stand out in each statistic.
fn statistics(rows: &[MetricRow]) -> String {
    let columns = (1..=FIRST).map(|i| if i == 1 { "first".to_owned() } else { format!("{i}.") });
    let headers = ["statistic", "mean over heads"].map(str::to_owned).into_iter().chain(columns);
    let mut table = Table::new(headers);
    for (metric, title, lowest) in SHOWN {
        let mut own: Vec<&MetricRow> =
            rows.iter().filter(|r| r.kind == RowKind::Head && r.metric == metric).collect();
        if own.is_empty() {
            continue;
        }
        let mean = own.iter().map(|r| r.estimate).sum::<f64>() / own.len() as f64;
        own.sort_by(|a, b| b.estimate.total_cmp(&a.estimate));
        if lowest {
            own.reverse();
        }
        let first = own.into_iter().take(FIRST).map(|row| format!("{} {}", name(row), with_interval(row)));
        table.row([title.to_owned(), format!("{mean:.3}")].into_iter().chain(first));
    }
    format!("heads that stand out ({LEGEND})\n{table}")
}

/// The strongest links of every head of a prompt.
fn links(patterns: &Patterns) -> String {
    let mut table = Table::new(["head", "on the first token", "strongest links elsewhere"]);
    let n = patterns.tokens.len();
    let token = |i: usize| show(patterns.tokens[i].text.as_bytes());
    for head in &patterns.heads {
        let first = (1..n).map(|query| head.weights[query * n]).sum::<f64>() / n.saturating_sub(1) as f64;
        let first = if n > 1 { format!("{first:.2}") } else { String::new() }; // a first token has nothing else
        let links = head.strongest(FIRST).into_iter().map(|link| {
            let place = |i: usize| format!("{}@{i}", token(i));
            format!("{} → {} {:.2}", place(link.query), place(link.key), link.weight)
        });
        table.row([head.label(), first].into_iter().chain(links));
    }
    format!("where heads look: query → key and its share of the query's attention\n{table}")
}

/// The heads without which the model is worst.
fn ablations(rows: &[MetricRow]) -> String {
    let of = |metric: &str| -> Vec<&MetricRow> {
        rows.iter().filter(|r| r.kind == RowKind::HeadAblation && r.metric == metric).collect()
    };
    let mut increases = of("ce_increase");
    let drops = of("accuracy_drop");
    increases.sort_by(|a, b| b.estimate.total_cmp(&a.estimate));
    let all = increases.len();
    let mut table = Table::new(["without", "cross-entropy rises by", "accuracy falls by"]);
    for row in increases.into_iter().take(WORST) {
        let drop = drops.iter().find(|r| r.subject == row.subject && r.layer == row.layer);
        let drop = drop.map_or_else(String::new, |r| with_interval(r));
        table.row([name(row), with_interval(row), drop]);
    }
    let own = |metric: &str| {
        let own = rows.iter().find(|r| r.kind == RowKind::Model && r.metric == metric);
        own.map_or_else(String::new, with_interval)
    };
    let title = format!("the model itself: cross-entropy {} nats, accuracy {}", own("ce"), own("accuracy"));
    let more = if all > WORST { format!("\nthe first {WORST} of {all}") } else { String::new() };
    format!("{title} ({LEGEND}){more}\n{table}")
}
