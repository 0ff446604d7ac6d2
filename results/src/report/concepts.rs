//! What `lens concepts` found: shares of words among the first k by layer, beside those of another prompt's words.

use super::{
    Run,
    figure::{Figure, Heading, Rows, curves},
};
use crate::run::MetricRow;

/// The `k`s that are drawn.
const KS: [u64; 2] = [10, 100];

/// A figure per `k`, a line per lens and one for its control.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    if run.manifest.kind != "lens concepts" {
        return Vec::new();
    }
    KS.iter().filter_map(|k| among_the_first(run, *k)).collect()
}

fn among_the_first(run: &Run, k: u64) -> Option<Figure> {
    let mut lines = Rows::default();
    for (metric, whose) in
        [(format!("pass_at_{k}"), ""), (format!("control_pass_at_{k}"), ", another prompt's word")]
    {
        let own = |row: &&MetricRow| row.metric == metric && row.kind.is_read();
        for row in run.rows.iter().filter(own) {
            lines.add(&format!("{}{whose}", row.subject), row.clone());
        }
    }
    if lines.lines.is_empty() {
        return None;
    }
    let heading = Heading::new(
        format!("concepts-first-{k}"),
        format!("Words that an answer goes through, among the first {k}"),
        "At the prompt's last position.",
    )
    .but_not(
        "that the model answers by way of the word: a state may hold what nothing reads. `lens causal` and an edit along `lens vectors` \
         ask that. A share over many layers is larger than at any one, by chance too; the control is read the same way.",
    );
    Some(curves(run, heading, ("share of words", false), &[lines]))
}
