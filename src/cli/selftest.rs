//! `selftest`: does the instrument keep its promises on this machine?

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use layerscope::{
    calibration::{Coverage, Planted, Selection, Tested},
    job::selftest::{DOCUMENTS, Statistics, TEXTS, WINDOWS},
};

use super::{args::OutputArgs, exit::Failure, output::Output, table::Table};

/// Check the instrument itself
#[derive(Debug, Args)]
pub(crate) struct Selftest {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Statistics(StatisticsArgs),
}

/// Simulate: how often intervals hold the truth, and how often tests find what is not there
#[derive(Debug, Args)]
struct StatisticsArgs {
    #[command(flatten)]
    job: Statistics,
    #[command(flatten)]
    output: OutputArgs,
}

impl Selftest {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let What::Statistics(statistics) = self.what;
        statistics.run()
    }
}

impl StatisticsArgs {
    fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let found = self.job.run(&output)?;
        output.print(&covered(&found.documents, &DOCUMENTS, "documents"))?;
        output.print(&covered(&found.windows, &WINDOWS, "windows"))?;
        output.print(&covered(&found.states, &TEXTS, "documents"))?;
        output.print(&of_choice(&found.selection))?;
        if !found.tests.is_empty() {
            output.print(&of_tests(&found.tests))?;
        }
        output.print(&of_leaks(&found.leaks))?;
        output.result(found.json())?;
        if let Some(failure) = found.failure() {
            return Err(Failure::check(failure));
        }
        output.note(format!("all {} promises kept", found.promises().len()));
        Ok(())
    }
}

/// Coverage by number and size of sample.
fn covered(rows: &[Coverage], sizes: &[usize], what: &str) -> String {
    let mut text = format!(
        "share of 95 % intervals that hold the truth, by {what} in the sample (- : hardly ever an interval)\n"
    );
    let mut table =
        Table::new([String::new(), what.to_owned()].into_iter().chain(sizes.iter().map(ToString::to_string)));
    let mut seen = Vec::new();
    for row in rows {
        if seen.contains(&(row.number, row.sizes)) {
            continue;
        }
        seen.push((row.number, row.sizes));
        let cell = |n: &usize| {
            let found =
                rows.iter().find(|r| (r.number, r.sizes, r.n_clusters) == (row.number, row.sizes, *n));
            found
                .filter(|r| r.without <= 0.9)
                .map_or_else(|| "-".to_owned(), |r| format!("{:.3}", r.coverage))
        };
        let sizes_word = format!("{:?}", row.sizes).to_lowercase();
        table.row([row.number.to_owned(), sizes_word].into_iter().chain(sizes.iter().map(cell)));
    }
    let _ = write!(text, "{table}");
    text
}

fn of_tests(rows: &[Tested]) -> String {
    let mut table = Table::new(["probe", "grouping", "nothing there", "a signal"]);
    for row in rows {
        let numbers = [row.false_alarms, row.power].map(|share| format!("{share:.3}"));
        table.row(
            [row.estimator.name().to_owned() + row.kind.name(), row.grouping.name().to_owned()]
                .into_iter()
                .chain(numbers),
        );
    }
    format!("share of permutation tests with p ≤ .05\n{table}")
}

fn of_choice(rows: &[Selection]) -> String {
    let mut table = Table::new(["test items", "highest", "less optimism", "holds", "chosen before", "holds"]);
    for row in rows {
        let excess = |x: f64| format!("{x:+.3}");
        let share = |x: f64| format!("{x:.3}");
        table.row([
            row.items.to_string(),
            excess(row.highest_excess),
            excess(row.corrected_excess),
            share(row.corrected_coverage),
            excess(row.nested_excess),
            share(row.nested_coverage),
        ]);
    }
    format!(
        "how much too high the accuracy of the best of 13 equal layers is, and how often its interval holds the truth\n{table}"
    )
}

fn of_leaks(rows: &[Planted]) -> String {
    let mut table = Table::new(["documents fitted on come back", "planted", "caught", "false alarms"]);
    for row in rows {
        let numbers = [row.planted, row.caught, row.false_alarms].map(|n| n.to_string());
        table.row(std::iter::once(row.plant.name().to_owned()).chain(numbers));
    }
    format!("leaks\n{table}")
}
