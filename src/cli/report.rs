//! `report`: figures and tables of finished runs.

use clap::Args;
use layerscope::{
    job::{Job as _, Report},
    results::{
        report::{Caveat, Figure, PAGE, Report as Drawn, Table, Written},
        words::counted,
    },
};
use serde_json::json;

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Show what runs found: one offline page, figures (SVG, PNG, CSV) and tables (CSV, Markdown, LaTeX); no model is needed
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    job: Report,
    #[command(flatten)]
    output: OutputArgs,
}

impl ReportArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let found = self.job.run(&output)?;
        for (text, runs) in together(&found.drawn.caveats) {
            output.note(format!("{}: {text}", runs.join(", ")));
        }
        self.tell(&found.drawn, &found.written, output)
    }

    /// What was written, a line per folder.
    fn tell(&self, shown: &Drawn, written: &Written, output: Output) -> Result<(), Failure> {
        let place = |folder: &str| self.job.out.join(folder).display().to_string();
        let (figures, tables) = (shown.figures.len(), shown.tables.len());
        output.print(&format!("{}: {} (svg, png, csv)", place("figures"), counted(figures, "figure")))?;
        output.print(&format!("{}: {} (csv, md, tex)", place("tables"), counted(tables, "table")))?;
        output.print(&format!("{}: everything on one page, to open in a browser", place(PAGE)))?;
        let figure = |f: &Figure| json!({ "name": f.name, "title": f.title, "caption": f.caption });
        let table = |t: &Table| json!({ "name": t.name, "title": t.title });
        let caveat = |c: &Caveat| json!({ "run": c.run, "text": c.text, "metrics": c.metrics });
        output.result(json!({
            "out": self.job.out.display().to_string(),
            "figures": shown.figures.iter().map(figure).collect::<Vec<_>>(),
            "tables": shown.tables.iter().map(table).collect::<Vec<_>>(),
            "caveats": shown.caveats.iter().map(caveat).collect::<Vec<_>>(),
            "files": written.files,
        }))?;
        Ok(())
    }
}

/// Every caveat once, with its runs.
fn together(caveats: &[Caveat]) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for caveat in caveats {
        match all.iter_mut().find(|(text, _)| *text == caveat.text) {
            Some((_, runs)) => runs.push(&caveat.run),
            None => all.push((&caveat.text, vec![&caveat.run])),
        }
    }
    all
}
