//! `selftest`: does the instrument keep its promises on this machine?

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use layerscope::{
    calibration::{
        Coverage, Planted, Promise, Selection, Sizes, Tested, documents, planted, selection, tested, windows,
    },
    results::statistics::Intervals,
};
use serde_json::json;

use super::{args::CommonArgs, exit::Failure, output::Output, table::Table};

/// Check the instrument itself
#[derive(Debug, Args)]
pub(crate) struct Selftest {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Statistics(Statistics),
}

/// Simulate: how often intervals hold the truth, and how often tests find what is not there
#[derive(Debug, Args)]
struct Statistics {
    /// Corpora drawn for each number and size
    #[arg(long, default_value_t = 400, value_name = "N")]
    samples: usize,
    /// Labelled sets drawn for each grouping; 0 leaves the tests out
    #[arg(long, default_value_t = 100, value_name = "N")]
    sets: usize,
    #[command(flatten)]
    common: CommonArgs,
}

/// Documents of a sample, and windows of one.
const DOCUMENTS: [usize; 6] = [5, 7, 10, 20, 50, 200];
const WINDOWS: [usize; 5] = [20, 50, 100, 200, 1000];
/// Test items of a choice among layers.
const ITEMS: [usize; 4] = [20, 50, 100, 400];
/// Of neighbouring windows: the middle of what texts have.
const CORRELATION: f64 = 0.35;

impl Selftest {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let What::Statistics(statistics) = self.what;
        statistics.run()
    }
}

impl Statistics {
    fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let draws = (self.samples, self.common.seed);
        let intervals = Intervals::default();
        let mut coverage = Vec::new();
        for sizes in [Sizes::Equal, Sizes::Unequal] {
            coverage.extend(documents(sizes, &DOCUMENTS, draws, intervals)?);
        }
        let of_windows = windows(CORRELATION, &WINDOWS, draws, intervals)?;
        let tests = match self.sets {
            0 => Vec::new(),
            sets => tested(sets, 99, self.common.seed).map_err(Failure::failed)?,
        };
        let chosen = selection(&ITEMS, self.samples, self.common.seed).map_err(Failure::failed)?;
        let leaks = planted(self.common.seed);
        output.print(&covered(&coverage, &DOCUMENTS, "documents"))?;
        output.print(&covered(&of_windows, &WINDOWS, "windows"))?;
        output.print(&of_choice(&chosen))?;
        if !tests.is_empty() {
            output.print(&of_tests(&tests))?;
        }
        output.print(&of_leaks(&leaks))?;
        coverage.extend(of_windows);
        let promises: Vec<Promise> = coverage
            .iter()
            .filter_map(Coverage::promise)
            .chain(tests.iter().map(Tested::promise))
            .chain(chosen.iter().map(Selection::promise))
            .chain(leaks.iter().flat_map(Planted::promises))
            .collect();
        output
            .result(json!({ "coverage": coverage, "tests": tests, "selection": chosen, "leaks": leaks }))?;
        verdict(&promises, output)
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
        table.row([row.number.name().to_owned(), sizes_word].into_iter().chain(sizes.iter().map(cell)));
    }
    let _ = write!(text, "{table}");
    text
}

fn of_tests(rows: &[Tested]) -> String {
    let mut table = Table::new(["probe", "grouping", "nothing there", "a signal"]);
    for row in rows {
        let numbers = [row.false_alarms, row.power].map(|share| format!("{share:.3}"));
        table.row(
            [row.estimator.name().to_owned(), row.grouping.name().to_owned()].into_iter().chain(numbers),
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

/// One line, and exit 3 when a promise was broken.
fn verdict(promises: &[Promise], output: Output) -> Result<(), Failure> {
    let broken: Vec<&Promise> = promises.iter().filter(|promise| !promise.kept()).collect();
    let Some(first) = broken.first() else {
        output.note(format!("all {} promises kept", promises.len()));
        return Ok(());
    };
    Err(Failure::check(format!(
        "{} of {} promises broken; {}: {:.3} of {}, promised {:.2} to {:.2}",
        broken.len(),
        promises.len(),
        first.of,
        first.found,
        first.samples,
        first.bounds.0,
        first.bounds.1
    )))
}
