//! `query`: SQL over the tables of runs.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
#[cfg(feature = "query")]
use super::output::write_out;

/// Ask the tables of runs, lens folders and exports in SQL: metrics, tokens, scores, acts and whatever else a folder
/// holds
#[derive(Debug, Args)]
#[command(
    after_help = "Every row has a column `run`, its folder's name, so one statement compares runs:\n  \
    layerscope query out/a out/b \"SELECT x.layer, x.estimate - y.estimate AS less FROM metrics x JOIN metrics y\n    \
    ON x.layer = y.layer AND x.subject = y.subject AND x.metric = y.metric AND x.unit = y.unit\n    \
    WHERE x.run = 'a' AND y.run = 'b' AND x.metric = 'kl' AND x.unit = 'nats'\""
)]
pub(crate) struct QueryArgs {
    /// Folders, and last of all the statement
    #[arg(value_name = "RUN… SQL", required = true, num_args = 2..)]
    runs_and_sql: Vec<PathBuf>,
    /// A line of JSON per row
    #[arg(long, group = "form")]
    json: bool,
    /// CSV with a header
    #[arg(long, group = "form")]
    csv: bool,
    /// Write the rows to this Parquet file
    #[arg(long, group = "form", value_name = "FILE")]
    parquet: Option<PathBuf>,
}

impl QueryArgs {
    #[cfg(not(feature = "query"))]
    #[expect(clippy::unused_self, reason = "as the command that is there")]
    pub(crate) fn run(self) -> Result<(), Failure> {
        Err(Failure::usage(anyhow::anyhow!(
            "this program was built without `query`; released ones have it, and `cargo build --release --features query` makes one"
        )))
    }

    #[cfg(feature = "query")]
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        use layerscope::results::{
            query::{QueryError, Tables},
            run::write_table,
        };

        let ended = |e: QueryError| if e.is_usage() { Failure::usage(e) } else { e.into() };
        let sql = self.runs_and_sql.pop().unwrap_or_default();
        let sql =
            sql.to_str().ok_or_else(|| Failure::usage(anyhow::anyhow!("the statement is not UTF-8")))?;
        let answer = Tables::of(&self.runs_and_sql).and_then(|tables| tables.query(sql)).map_err(ended)?;
        let text = match (&self.parquet, self.json, self.csv) {
            (Some(path), ..) => {
                write_table(path, &answer.arrow().map_err(Failure::usage)?)?;
                return Ok(());
            }
            (_, true, _) => answer.json_lines(),
            (.., true) => answer.csv(),
            _ => table(&answer).to_string(),
        };
        Ok(write_out(&text)?)
    }
}

/// The answer with a header, for people.
#[cfg(feature = "query")]
fn table(answer: &layerscope::results::query::Answer) -> super::table::Table {
    let columns = answer.columns();
    let width = columns.len();
    let mut table = super::table::Table::new(columns);
    for row in 0..answer.rows() {
        table.row((0..width).map(|column| answer.cell(row, column).unwrap_or_default()));
    }
    table
}
