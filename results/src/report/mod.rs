//! From finished runs to a folder people read: figures, tables, and what to be careful about.
//!
//! ```text
//! RUN/manifest.json + metrics.parquet -> Run -> sections -> Figure, Table, Caveat -> DIR
//! RUN/trajectory.parquet -> Trace ----------------------------------^               report.html <- page::Page
//! ```
//!
//! A [`Run`] is all that is needed: no model, no text. The `kind` and `metric` columns say which figures and tables
//! there are ([`Report::of`]); each keeps the rows it shows, which are written beside it as CSV, every number as in
//! `metrics.parquet`. [`Report::write`] leaves a whole folder or none.

mod attention;
mod attribution;
mod basis;
mod causal;
mod caveat;
mod concepts;
mod error;
mod figure;
mod future;
mod generated;
mod law;
mod lens;
mod parity;
mod probe;
mod prompt;
mod run;
mod table;
mod think;
mod transfer;
mod words;
mod write;

pub use caveat::Caveat;
pub use error::ReportError;
pub use figure::Figure;
pub use run::Run;
pub use table::{Table, TableCell};
pub(crate) use words::counted;
pub use write::{PAGE, Written};

use std::path::PathBuf;

/// What one or several runs show.
#[derive(Debug)]
pub struct Report {
    /// The runs, in the order asked for.
    pub runs: Vec<Run>,
    /// Figures, by run.
    pub figures: Vec<Figure>,
    /// Tables, by run.
    pub tables: Vec<Table>,
    /// The run of every table, by its place.
    table_runs: Vec<usize>,
    /// What to be careful about, by run.
    pub caveats: Vec<Caveat>,
}

impl Report {
    /// Reads the run folders at `paths` and decides what they show.
    ///
    /// # Errors
    /// [`ReportError`] naming the folder: no run, an unfinished one, damaged numbers, or nothing to draw.
    pub fn of(paths: &[PathBuf]) -> Result<Self, ReportError> {
        let mut runs = Run::read_all(paths)?;
        parity::share(&mut runs);
        let mut report = Self {
            runs,
            figures: Vec::new(),
            tables: Vec::new(),
            table_runs: Vec::new(),
            caveats: Vec::new(),
        };
        for (place, run) in report.runs.iter().enumerate() {
            let mut figures = Vec::new();
            for section in [
                parity::figures,
                lens::figures,
                future::figures,
                transfer::figures,
                probe::figures,
                law::figures,
                attribution::figures,
                concepts::figures,
                causal::figures,
                generated::figures,
                think::figures,
                basis::figures,
                attention::figures,
            ] {
                figures.extend(section(run));
            }
            figures.extend(prompt::figures(run));
            if figures.is_empty() {
                return Err(ReportError::Nothing { path: run.path.clone(), kind: run.manifest.kind.clone() });
            }
            report.tables.extend(table::of(run, &figures));
            report.table_runs.resize(report.tables.len(), place);
            report.figures.extend(figures);
            report.caveats.extend(caveat::of(run));
        }
        Ok(report)
    }
}
