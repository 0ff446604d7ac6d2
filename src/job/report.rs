//! `report`: figures and tables of finished runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Job, JobError, Watch, new_manifest, shown};
use crate::results::report::{Caveat, Figure, Report as Drawn, ReportError, Table, Written};

/// Show what runs found: one offline page, figures (SVG, PNG, CSV) and tables (CSV, Markdown, LaTeX); no model is
/// needed
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Report {
    /// Folders written by lens eval, lens transfer, future, probe, steer, schedule, trace, view --out or verify --out
    #[cfg_attr(feature = "cli", arg(required = true, value_name = "RUN"))]
    pub runs: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub out: PathBuf,
    /// Replace another report
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// What was drawn.
pub struct Reported {
    /// Figures, tables and caveats.
    pub drawn: Drawn,
    /// The files.
    pub written: Written,
}

impl Reported {
    /// What was drawn and written, for programs.
    pub fn json(&self, out: &Path) -> Value {
        let Self { drawn, written } = self;
        let figure = |f: &Figure| json!({ "name": f.name, "title": f.title, "caption": f.caption });
        let table = |t: &Table| json!({ "name": t.name, "title": t.title });
        let caveat = |c: &Caveat| json!({ "run": c.run, "text": c.text, "metrics": c.metrics });
        json!({
            "out": shown(out),
            "figures": drawn.figures.iter().map(figure).collect::<Vec<_>>(),
            "tables": drawn.tables.iter().map(table).collect::<Vec<_>>(),
            "caveats": drawn.caveats.iter().map(caveat).collect::<Vec<_>>(),
            "files": written.files,
        })
    }
}

impl Job for Report {
    const COMMAND: &'static str = "report";
    type Outcome = Reported;

    crate::job::writes_out!();

    fn answer(&self, found: Reported) -> Result<Value, JobError> {
        Ok(found.json(&self.out))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Reported, JobError> {
        let drawn = Drawn::of(&self.runs).map_err(ended)?;
        for run in drawn.runs.iter().filter(|run| run.manifest.outputs.is_none()) {
            let run = run.path.display();
            watch.note(&format!(
                "{run}: its manifest is from before there were checksums; its files were not checked"
            ));
        }
        let progress = watch.begin("drawing", "figures", Some(drawn.figures.len() as u64));
        let manifest = new_manifest(self);
        let written = drawn.write(&self.out, manifest, self.force, &|| progress.inc(1)).map_err(ended)?;
        Ok(Reported { drawn, written })
    }
}

fn ended(error: ReportError) -> JobError {
    if error.is_usage() { JobError::usage(error) } else { JobError::failed(error) }
}
